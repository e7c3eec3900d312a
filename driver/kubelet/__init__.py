"""The kubelet's side: gRPC services on Unix sockets. The only folder (with the simulation) that imports grpc."""
