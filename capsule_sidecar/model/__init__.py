"""The plain types of the product: no gRPC, protobuf, SQL or HTTP."""
