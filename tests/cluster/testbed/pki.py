"""A real CA for the test bed, made with openssl at every start.

Clients check certificates as they would anywhere (Python 3.13 does so strictly, hence the key identifiers and usages),
and every component has an identity of its own, so RBAC and the Node authorizer decide as on a real cluster. Keys are
elliptic curves: all of it takes a fraction of a second.
"""

import base64
import json
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.testbed import layout


@dataclass(frozen=True)
class Certificate:
    """A leaf: user name, group, and for servers the names that they answer to."""

    name: str
    group: str = ""
    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


API_HOSTS = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    f"kubernetes.default.svc.{layout.CLUSTER_DOMAIN}",
)

# File name -> certificate. The names in CN and O are Kubernetes' own (its docs: PKI certificates and requirements).
CERTIFICATES: Mapping[str, Certificate] = {
    "apiserver": Certificate(
        "kube-apiserver", hosts=API_HOSTS, addresses=("127.0.0.1", layout.API_SERVICE, *layout.NODE_ADDRESSES.values())
    ),
    "kubelet-client": Certificate("kube-apiserver-kubelet-client", "system:masters"),  # API server -> kubelet
    "admin": Certificate("k8sddp-admin", "system:masters"),
    "controller-manager": Certificate("system:kube-controller-manager"),
    "scheduler": Certificate("system:kube-scheduler"),
    "proxy": Certificate("system:kube-proxy"),
    "coredns": Certificate("system:coredns"),
    **{node: Certificate(f"system:node:{node}", "system:nodes") for node in layout.NODE_ADDRESSES},
    **{
        f"{node}-serving": Certificate(f"system:node:{node}", "system:nodes", hosts=(node,), addresses=(address,))
        for node, address in layout.NODE_ADDRESSES.items()
    },
}

KUBECONFIGS = ("admin", "controller-manager", "scheduler", "proxy", "coredns", *layout.NODE_ADDRESSES)

_CA_CONFIG = """[req]
distinguished_name=dn
x509_extensions=ext
prompt=no
[dn]
CN=k8sddp-testbed
[ext]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign,digitalSignature
subjectKeyIdentifier=hash
"""


def leaf_config(certificate: Certificate) -> str:
    """Return openssl's configuration for one leaf."""
    names = [f"DNS:{host}" for host in certificate.hosts] + [f"IP:{address}" for address in certificate.addresses]
    usage = "serverAuth" if names else "clientAuth"
    lines = ["[req]", "distinguished_name=dn", "x509_extensions=ext", "prompt=no", "[dn]", f"CN={certificate.name}"]
    lines += [f"O={certificate.group}"] if certificate.group else []
    lines += ["[ext]", "basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature,keyEncipherment"]
    lines += [f"extendedKeyUsage={usage}", "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"]
    lines += [f"subjectAltName={','.join(names)}"] if names else []
    return "\n".join(lines) + "\n"


def create(lay: layout.Layout) -> None:
    """Write the CA, all leaves, the key of service account tokens, and a kubeconfig for each client."""
    lay.pki.mkdir(mode=0o700, parents=True)
    _certify(lay.pki, "ca", _CA_CONFIG, ())
    signed = ("-CA", str(lay.pki / "ca.crt"), "-CAkey", str(lay.pki / "ca.key"))
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(_certify, lay.pki, name, leaf_config(leaf), signed) for name, leaf in CERTIFICATES.items()]
        for job in jobs:
            job.result()
    _openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(lay.pki / "sa.key"))
    _openssl("ec", "-in", str(lay.pki / "sa.key"), "-pubout", "-out", str(lay.pki / "sa.pub"))
    for name in KUBECONFIGS:
        path = lay.kubeconfig(name)
        path.touch(mode=0o600)
        path.write_text(json.dumps(_kubeconfig(lay.pki, name)))


def _kubeconfig(pki: Path, name: str) -> dict[str, object]:
    def embedded(file: str) -> str:
        return base64.b64encode((pki / file).read_bytes()).decode()

    server = {"server": f"https://127.0.0.1:{layout.API_PORT}", "certificate-authority-data": embedded("ca.crt")}
    user = {"client-certificate-data": embedded(f"{name}.crt"), "client-key-data": embedded(f"{name}.key")}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": server}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": name}}],
        "current-context": "testbed",
    }


def _certify(pki: Path, name: str, config: str, signed: tuple[str, ...]) -> None:
    (pki / f"{name}.cnf").write_text(config)
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
    files = ("-config", str(pki / f"{name}.cnf"), "-keyout", str(pki / f"{name}.key"), "-out", str(pki / f"{name}.crt"))
    _openssl("req", "-x509", "-new", *curve, "-days", "30", *signed, *files)


def _openssl(*args: str) -> None:
    done = subprocess.run(("openssl", *args), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"openssl {args[0]}: exit {done.returncode}: {done.stderr.strip()[-500:]}")
