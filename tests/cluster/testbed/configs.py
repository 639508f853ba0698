"""The configuration files of the test bed's components, as text: values in, text out.

JSON stands where a component reads YAML, which includes it. What is not set here is Kubernetes' default; each setting
that differs says why. The bootstrap objects are what kubeadm would create for DNS, with CoreDNS as a process instead
of pods.
"""

import json
import struct
from collections.abc import Mapping

from tests.cluster.testbed import layout

Json = Mapping[str, object]


def kubelet(lay: layout.Layout, node: str) -> str:
    """Return a KubeletConfiguration."""
    config: Json = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.NODE_ADDRESSES[node],
        "port": layout.KUBELET_PORTS[node],
        "readOnlyPort": 0,
        "healthzPort": layout.KUBELET_HEALTH_PORTS[node],
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(lay.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(lay.pki / f"{node}-serving.crt"),
        "tlsPrivateKeyFile": str(lay.pki / f"{node}-serving.key"),
        "containerRuntimeEndpoint": f"unix://{lay.containerd_socket(node)}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{lay.cgroup}/{node}",  # shared with the other kubelet, each would kill the other's pods
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [layout.DNS_SERVICE],
        "clusterDomain": layout.CLUSTER_DOMAIN,
        "resolvConf": str(lay.state / "resolv.conf"),
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,  # an image that is collected cannot be pulled again
        "nodeStatusUpdateFrequency": "5s",
        "nodeLeaseDurationSeconds": 20,  # renewed every 5 s: must fit the grace period several times
        "podLogsDir": str(lay.logs / f"pods-{node}"),
        "volumePluginDir": str(lay.node(node) / "volume-plugins"),
        "featureGates": {"KubeletInUserNamespace": True},  # an unwritable kernel setting is then not fatal
    }
    return json.dumps(config, indent=1)


def containerd(lay: layout.Layout, node: str) -> str:
    """Return containerd's TOML."""
    run = layout.RUN / node
    cri = "plugins.'io.containerd.cri.v1"
    runc = f"{cri}.runtime'.containerd.runtimes.runc"
    return f"""version = 3
root = "{lay.node(node)}/containerd"
state = "{run}/containerd"
[grpc]
  address = "{lay.containerd_socket(node)}"
[ttrpc]
  address = "{lay.containerd_socket(node)}.ttrpc"
[plugins.'io.containerd.internal.v1.opt']
  path = "{run}/opt"
[plugins.'io.containerd.nri.v1.nri']
  disable = true  # its socket has one fixed path, and there are two containerds
[{cri}.images']
  snapshotter = "overlayfs"
  [{cri}.images'.pinned_images]
    sandbox = "{layout.PAUSE_IMAGE}"
[{cri}.runtime']
  restrict_oom_score_adj = true  # lowering it needs CAP_SYS_RESOURCE, which root may lack
  netns_mounts_under_state_dir = true
  [{cri}.runtime'.cni]
    bin_dirs = ["{cni_folder(lay)}"]
    conf_dir = "{lay.node(node)}/cni"
  [{runc}]
    runtime_type = "io.containerd.runc.v2"
    base_runtime_spec = "{lay.state}/base-spec.json"
    [{runc}.options]
      BinaryName = "{lay.program("runc")}"
"""


def cni_folder(lay: layout.Layout) -> str:
    """Return the folder of the network plugins."""
    return lay.program("ptp").rsplit("/", 1)[0]


def cni(lay: layout.Layout, node: str) -> str:
    """Return the network list: point-to-point links, as kind has them; conntrack then sees every packet."""
    ipam: Json = {
        "type": "host-local",
        "dataDir": str(lay.node(node) / "ipam"),
        "ranges": [[{"subnet": layout.POD_SUBNETS[node]}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugin: Json = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    return json.dumps({"cniVersion": "1.0.0", "name": f"testbed-{node}", "plugins": [plugin]}, indent=1)


def base_spec(default: str, python: tuple[int, int]) -> str:
    """Return containerd's default container spec with the site-packages bound where Debian's python3 looks for them."""
    spec = json.loads(default)
    spec["mounts"].append(
        {
            "destination": f"/usr/local/lib/python{python[0]}.{python[1]}/dist-packages",
            "type": "bind",
            "source": str(layout.SITE_PACKAGES),
            "options": ["rbind", "ro"],
        }
    )
    return json.dumps(spec)


def kube_proxy(lay: layout.Layout) -> str:
    """Return a KubeProxyConfiguration; one kube-proxy serves the one network namespace of both Nodes."""
    config: Json = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": next(iter(layout.NODE_ADDRESSES.values())),
        "mode": "nftables",
        "clusterCIDR": layout.CLUSTER_CIDR,
        "clientConnection": {"kubeconfig": str(lay.kubeconfig("proxy"))},
        "hostnameOverride": next(iter(layout.NODE_ADDRESSES)),
        "conntrack": {"maxPerCore": 0},  # that limit belongs to the machine
        "nodePortAddresses": ["primary"],
    }
    return json.dumps(config, indent=1)


def corefile(lay: layout.Layout) -> str:
    """Return kubeadm's Corefile, except that no other name server is asked: outside names do not exist."""
    return f"""{layout.CLUSTER_DOMAIN}:53 in-addr.arpa:53 ip6.arpa:53 {{
    bind {layout.DNS_ADDRESS}
    errors
    ready 127.0.0.1:8181
    kubernetes {layout.CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {lay.kubeconfig("coredns")} testbed
        pods insecure
        ttl 30
    }}
    cache 30 {{
        disable success {layout.CLUSTER_DOMAIN}
        disable denial {layout.CLUSTER_DOMAIN}
    }}
}}
.:53 {{
    bind {layout.DNS_ADDRESS}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def bootstrap() -> str:
    """Return the objects of DNS: its Service with a fixed endpoint, and the reader's role of CoreDNS."""
    name = "kube-dns"
    meta: Json = {"name": name, "namespace": "kube-system", "labels": {"k8s-app": name}}
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    service: Json = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"clusterIP": layout.DNS_SERVICE, "ports": ports},
    }
    endpoints: Json = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**meta, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [layout.DNS_ADDRESS]}],
        "ports": ports,
    }
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    rbac = "rbac.authorization.k8s.io"
    user = "system:coredns"
    role: Json = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": user}, "rules": rules}
    binding: Json = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": user},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}],
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [service, endpoints, role, binding]})


def zone(offset: int) -> bytes:
    """Return a time zone file (RFC 8536, version 1) of one offset from UTC in seconds, for a process's TZ."""
    name = b"BED\0"
    counts = (0, 0, 0, 0, 1, len(name))  # no UT or standard indicators, leap seconds, transitions; one type, its name
    return b"TZif" + bytes(16) + struct.pack(">6l", *counts) + struct.pack(">lBB", offset, 0, 0) + name
