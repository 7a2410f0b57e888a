"""The gRPC door: translates calls for the engines and sessions."""
