"""Messages of k8s.io.kubelet.pkg.apis.dra.v1beta1."""
