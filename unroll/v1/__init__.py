"""Generated from protos/unroll/v1: the messages and the service of the contract."""
