"""The cluster is one that a user could have: what later suites take for granted about it."""

import base64
import json
import re
import socket
import ssl
import subprocess
import threading
import urllib.request
from pathlib import Path

import pytest

from tests.cluster import lifecycle, pods
from tests.cluster.clusters import Cluster
from tests.cluster.testbed import layout

pytestmark = pytest.mark.cluster

LOOK_UP = "import socket; print(socket.getaddrinfo('{name}', 1)[0][4][0])"
SERVE = "import http.server; http.server.test(HandlerClass=http.server.SimpleHTTPRequestHandler, port=8000)"
ASK_API = """
import ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
context = ssl.create_default_context(cafile=folder + "ca.crt")
context.verify_flags |= ssl.VERIFY_X509_STRICT
request = urllib.request.Request("https://kubernetes.default/version")
request.add_header("Authorization", "Bearer " + open(folder + "token").read())
print(urllib.request.urlopen(request, context=context, timeout=10).status)
"""


def test_two_nodes_are_ready(cluster: Cluster) -> None:
    """Both Nodes are Ready and report the version that was built."""
    nodes = json.loads(cluster.kubectl("get", "nodes", "--output=json"))["items"]
    ready = {
        node["metadata"]["name"]: condition["status"]
        for node in nodes
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    }
    assert dict.fromkeys(cluster.nodes, "True") == {name: ready[name] for name in cluster.nodes}
    assert 2 == len(cluster.nodes)


def test_pods_on_two_nodes_find_each_other_by_name(cluster: Cluster, restricted_namespace: str) -> None:
    """A pod resolves a peer's name below the headless Service and reaches it on the other Node."""
    first, second = cluster.nodes
    space = restricted_namespace
    server = pods.make_pod("server", SERVE, image=cluster.image, kube_node=first)
    client = pods.make_pod("client", pods.SLEEP, image=cluster.image, kube_node=second)
    pods.create(cluster, space, [pods.make_service(), server, client])
    pods.wait(cluster, space, "condition=Ready", "server", "client")
    address = cluster.kubectl("get", "pod", "server", f"--namespace={space}", "--output=jsonpath={.status.podIP}")
    name = f"server.peers.{space}.svc.cluster.local"
    found = pods.eventually(lambda: pods.execute(cluster, space, "client", LOOK_UP.format(name=name)))
    get = f"import urllib.request; print(urllib.request.urlopen('http://{name}:8000/etc/hostname', timeout=5).status)"
    status = pods.eventually(lambda: pods.execute(cluster, space, "client", get))
    assert (address, "200") == (found, status)


def test_a_pod_verifies_the_api_server(cluster: Cluster, restricted_namespace: str) -> None:
    """https://kubernetes.default answers a pod with a certificate that passes Python's strict check."""
    pod = pods.make_pod("client", pods.SLEEP, image=cluster.image, token=True)
    pods.create(cluster, restricted_namespace, [pod])
    pods.wait(cluster, restricted_namespace, "condition=Ready", "client")
    assert "200" == pods.execute(cluster, restricted_namespace, "client", ASK_API)


def test_torch_is_in_pods_and_k8sddp_is_not(cluster: Cluster, restricted_namespace: str) -> None:
    """The image offers python3 with torch; k8sddp cannot be imported by accident."""
    pods.create(cluster, restricted_namespace, [pods.make_pod("main", pods.SLEEP, image=cluster.image)])
    pods.wait(cluster, restricted_namespace, "condition=Ready", "main")
    find = "import importlib.util as u; print([bool(u.find_spec(n)) for n in ('torch', 'numpy', 'k8sddp', 'pytest')])"
    assert "[True, True, False, False]" == pods.execute(cluster, restricted_namespace, "main", find)


def test_logs_and_exec_work_for_a_user_with_the_edit_role(cluster: Cluster, restricted_namespace: str) -> None:
    """`edit` is enough for logs and exec, and not for reading Nodes."""
    space = restricted_namespace
    alice = cluster.user_kubeconfig("alice", space)
    pods.create(
        cluster, space, [pods.make_pod("main", f"print('hello', flush=True); {pods.SLEEP}", image=cluster.image)]
    )
    pods.wait(cluster, space, "condition=Ready", "main")
    assert "hello" == cluster.kubectl("logs", "main", kubeconfig=alice).strip()
    assert "uid=65532" in cluster.kubectl("exec", "main", "--", "id", kubeconfig=alice)
    refused = cluster.run_inside(cluster.kubectl_argv("get", "nodes", kubeconfig=alice), check=False)
    assert "Forbidden" in refused.stderr


def test_port_forward_and_the_pod_proxy_reach_a_pod(cluster: Cluster, restricted_namespace: str) -> None:
    """kubectl port-forward and the pods/proxy subresource both reach a port of a pod."""
    space = restricted_namespace
    pods.create(cluster, space, [pods.make_pod("server", SERVE, image=cluster.image)])
    pods.wait(cluster, space, "condition=Ready", "server")
    proxied = f"/api/v1/namespaces/{space}/pods/server:8000/proxy/etc/hostname"
    assert "server" == str(pods.eventually(lambda: cluster.kubectl("get", f"--raw={proxied}"))).strip()
    argv = cluster.inside_argv(cluster.kubectl_argv("port-forward", f"--namespace={space}", "pod/server", ":8000"))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            said = re.fullmatch(r"Forwarding from (127\.0\.0\.1:\d+) -> 8000\n", forward.stdout.readline())
            assert said is not None
            with urllib.request.urlopen(f"http://{said[1]}/etc/hostname", timeout=5) as answer:
                assert b"server" == answer.read().strip()
        finally:
            forward.terminate()


def test_eviction_disrupts_a_pod(cluster: Cluster, restricted_namespace: str) -> None:
    """The eviction API ends a pod."""
    space = restricted_namespace
    pods.create(cluster, space, [pods.make_pod("main", pods.SLEEP, image=cluster.image)])
    pods.wait(cluster, space, "condition=Ready", "main")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "main", "namespace": space}}
    path = f"/api/v1/namespaces/{space}/pods/main/eviction"
    cluster.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))
    pods.wait(cluster, space, "delete", "main")


def test_pod_security_refuses_a_pod_that_is_not_restricted(cluster: Cluster, restricted_namespace: str) -> None:
    """A pod without a security context is refused in a namespace that enforces the restricted profile."""
    run = cluster.kubectl_argv("run", "x", f"--image={cluster.image}", f"--namespace={restricted_namespace}")
    done = cluster.run_inside(run, check=False)
    assert 'violates PodSecurity "restricted' in done.stderr


def test_a_kubelet_may_touch_what_is_its_nodes_alone(cluster: Cluster, restricted_namespace: str) -> None:
    """Its identity reads a Secret once a pod of its Node mounts it, and may not change the other Node."""
    if cluster.backend != "testbed":
        pytest.skip("only the test bed gives its kubelets' kubeconfigs away")
    space = ("--namespace", restricted_namespace)
    first, second = cluster.nodes
    kubelet = layout.load(lifecycle.folder("testbed"), cluster.name).kubeconfig(first)
    cluster.kubectl(*space, "create", "secret", "generic", "token", "--from-literal=key=value")

    def refusal(*words: str, stdin: str | None = None) -> str:
        argv = cluster.kubectl_argv(*words, kubeconfig=kubelet)
        return cluster.run_inside(argv, stdin=stdin, check=False).stderr

    assert "no relationship found" in refusal(*space, "get", "secret", "token")
    labelled = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": second, "labels": {"a": "b"}}}
    put = ("replace", f"--raw=/api/v1/nodes/{second}", "--filename=-")
    assert "is not allowed to modify node" in refusal(*put, stdin=json.dumps(labelled))
    pod = pods.make_pod("main", pods.SLEEP, image=cluster.image, kube_node=first)
    pod["spec"]["volumes"] = [{"name": "token", "secret": {"secretName": "token"}}]
    pods.create(cluster, restricted_namespace, [pod])
    pods.wait(cluster, restricted_namespace, "condition=PodScheduled", "main")
    assert pods.eventually(lambda: refusal(*space, "get", "secret", "token") == "")
    assert "" == refusal("get", "node", first)


def test_inside_moves_only_the_calling_thread(cluster_session: Cluster) -> None:
    """Threads that were there before stay where they were; the caller comes back."""
    if cluster_session.network_namespace is None:
        pytest.skip("only the test bed has a network namespace of its own")
    links: list[set[str]] = []
    entered, looked = threading.Event(), threading.Event()

    def look() -> None:
        entered.wait(10)
        links.append({name for _, name in socket.if_nameindex()})
        looked.set()

    before = {name for _, name in socket.if_nameindex()}
    thread = threading.Thread(target=look)
    thread.start()
    with cluster_session.inside():
        entered.set()
        looked.wait(10)
        own = Path("/proc/thread-self/ns/net").readlink()
        assert Path(cluster_session.network_namespace).readlink() == own
    thread.join()
    assert [before, before] == [*links, {name for _, name in socket.if_nameindex()}]


def test_the_api_server_answers_in_process(cluster: Cluster) -> None:
    """Code under test reaches the API server from the test's own process."""
    if cluster.network_namespace is None:
        pytest.skip("only the test bed's API server has a fixed address")
    server = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "--output=json"))["clusters"][0]
    authority = base64.b64decode(server["cluster"]["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with urllib.request.urlopen(f"{server['cluster']['server']}/readyz", context=context, timeout=5) as answer:
        assert b"ok" == answer.read()
