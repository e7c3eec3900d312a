"""Generated from protos/ by hack/protos: messages of the kubelet's contracts. Never edited."""
