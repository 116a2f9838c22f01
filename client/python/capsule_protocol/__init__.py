"""The generated code of the Capsule protocol; `make proto` writes its versions."""
