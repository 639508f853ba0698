"""Two Kubernetes Nodes on one Linux machine without a container engine.

etcd, the control plane, CoreDNS, kube-proxy and, per Node, a containerd and a kubelet run as plain processes in one
set of PID, network and mount namespaces. That set is the whole trick of a clean end: when its first process dies the
kernel kills all the others, drops every mount and removes every link, whoever was killed before and however. Only the
cgroups and two folders are left to remove by hand. Signals go to processes found inside those namespaces, so nothing
else can be hit. What a reader must not expect: one machine's kernel, no NetworkPolicy enforcement, one kube-proxy for
both Nodes.
"""
