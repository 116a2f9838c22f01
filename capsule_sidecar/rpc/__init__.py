"""The gRPC face: servicers of about five lines a method, and what they share."""
