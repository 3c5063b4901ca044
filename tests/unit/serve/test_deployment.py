"""The deployment files against the repository and the server they deploy; no Docker and no cluster is asked."""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from support import ROOT
from tiny_model import write_tiny_model

from osv_lab.serve.app import create_app
from osv_lab.serve.client import Client
from osv_lab.serve.run import start_server
from osv_lab.serve.slot import ModelSlot

SERVER = ROOT / "server"
PORT = 8000
PINNED = re.compile(r"[^:@]+(:(?!latest$)[\w.-]*\d[\w.-]*)")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|[KMG]i?|[kmg]b?)?")


def load(path: str) -> Any:
    return yaml.safe_load((SERVER / path).read_text())


# -- Dockerfile -----------------------------------------------------------------------------------------------


def stages() -> dict[str, dict[str, Any]]:
    """The Dockerfile by stage: ``base`` and its instructions, line continuations joined."""
    text = (SERVER / "Dockerfile").read_text().replace("\\\n", " ")
    found: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if words[0] == "FROM":
            assert words[2] == "AS", "every stage has a name"
            current = found[words[3]] = {"base": words[1], "lines": []}
        else:
            current["lines"].append((words[0], line.split(maxsplit=1)[1]))
    return found


def instructions(stage: str, kind: str) -> list[str]:
    return [rest for name, rest in stages()[stage]["lines"] if name == kind]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    rules = (SERVER / "Dockerfile.dockerignore").read_text().split()
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    assert rules[0] == "*"
    copied = 0
    for name, stage in stages().items():
        for kind, rest in stage["lines"]:
            if kind != "COPY":
                continue
            *sources, _ = [word for word in rest.split() if not word.startswith("--")]
            source_stage = re.search(r"--from=(\S+)", rest)
            if source_stage:
                assert source_stage[1] in stages(), name
                continue
            for source in sources:
                copied += 1
                assert (ROOT / source).exists(), source
                assert any(fnmatch.fnmatch(source, rule) for rule in allowed), f"{source} is ignored"
    assert copied >= 6


def test_what_the_wheel_is_made_of_is_in_its_stage() -> None:
    """A folder that the wheel takes in and that is not there would end the build."""
    target = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = {word for rest in instructions("wheel", "COPY") for word in rest.split()[:-1]}
    assert {"pyproject.toml", *target["packages"], *target["force-include"]} <= copied


def test_stages() -> None:
    found = stages()
    assert {"cpu", "cuda", "lab"} <= set(found)
    assert list(found)[-1] == "cpu"
    for stage in found.values():
        assert stage["base"] in found or PINNED.fullmatch(stage["base"])
    assert "[server]" in " ".join(instructions("build-cpu", "RUN"))
    assert "[server-gpu]" in " ".join(instructions("build-cuda", "RUN"))
    # An environment works where it was made: under the same path, with the same Python.
    assert found["cpu"]["base"] == found["build-cpu"]["base"]
    assert found["cuda"]["base"] == found["build-cuda"]["base"]


def test_cuda_is_the_one_that_the_lock_was_made_for() -> None:
    locked = re.search(r"^nvidia-cuda-runtime==(\d+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    image = re.match(r"nvidia/cuda:(\d+)\.", stages()["cuda-python"]["base"])
    assert locked is not None
    assert image is not None
    assert image[1] == locked[1]


@pytest.mark.parametrize("stage", ["cpu", "cuda", "lab"])
def test_no_image_runs_as_root(stage: str) -> None:
    kinds = [kind for kind, _ in stages()[stage]["lines"]]
    assert instructions(stage, "USER") == ["10001:10001"]
    assert "RUN" not in kinds[kinds.index("USER") :]
    assert "--uid 10001" in " ".join(instructions(stage, "RUN"))


@pytest.mark.parametrize("stage", ["cpu", "cuda"])
def test_server_images(stage: str, paths: set[str]) -> None:
    settings = dict(re.findall(r"(\w+)=(\S+)", " ".join(instructions(stage, "ENV"))))
    assert settings["OSV_PORT"] == str(PORT)
    assert settings["HOME"] == "/tmp", "the root is read-only"
    assert instructions(stage, "EXPOSE") == [str(PORT)]
    assert instructions(stage, "CMD") == ['["python", "/opt/osv/main.py"]']
    assert any(rest.split()[-1] == "/opt/osv/main.py" for rest in instructions(stage, "COPY"))
    [check] = instructions(stage, "HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert command[0] == "python"
    compile(command[2], "healthcheck", "exec")
    assert re.search(r"\}(/\w+)'", command[2])[1] in paths  # type: ignore[index]
    known = set(re.findall(r"OSV_[A-Z_]+", (SERVER / "README.md").read_text()))
    assert {name for name in settings if name.startswith("OSV_")} <= known


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    app = create_app(ModelSlot(write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")))
    return set(app.openapi()["paths"])


# -- compose --------------------------------------------------------------------------------------------------

SERVICES = load("compose.yaml")["services"]
TARGETS = {"osv-lab-server:cpu": "cpu", "osv-lab-server:cuda": "cuda", "osv-lab:latest": "lab"}


def test_the_whole_set_is_there() -> None:
    document = load("compose.yaml")
    assert {"api", "mlflow", "fiftyone", "jupyter", "mongo", "s3", "prometheus", "grafana"} <= set(SERVICES)
    assert {key for key in document if not key.startswith("x-")} == {"name", "services", "volumes", "secrets"}
    images = {service["image"] for service in SERVICES.values()}
    assert set(TARGETS) <= images
    assert all(image in TARGETS or PINNED.fullmatch(image) for image in images)


@pytest.mark.parametrize("name", SERVICES)
def test_each_service(name: str) -> None:
    document, service = load("compose.yaml"), SERVICES[name]
    allowed = {
        "image",
        "build",
        "command",
        "entrypoint",
        "environment",
        "volumes",
        "ports",
        "secrets",
        "depends_on",
    }
    allowed |= {
        "healthcheck",
        "deploy",
        "restart",
        "cap_drop",
        "security_opt",
        "read_only",
        "tmpfs",
        "user",
        "profiles",
    }
    assert set(service) <= allowed | {"stop_grace_period"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    limits = service["deploy"]["resources"]["limits"]
    assert float(limits["cpus"]) > 0
    assert QUANTITY.fullmatch(limits["memory"])
    if service["image"] in TARGETS:
        build = service["build"]
        assert (SERVER / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).is_file()
        assert build["target"] == TARGETS[service["image"]]
        assert build["target"] in stages()
    else:
        assert "build" not in service
    for port in service.get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), "ports are on loopback"
    for volume in service.get("volumes", ()):
        source, target, *mode = volume.split(":")
        assert target.startswith("/")
        assert mode in ([], ["ro"])
        if source.startswith("./"):
            assert mode == ["ro"]
            assert source in ("./models",) or (SERVER / source).exists(), source
        else:
            assert source in document["volumes"]
    assert set(service.get("secrets", ())) <= set(document["secrets"])
    for other, condition in service.get("depends_on", {}).items():
        wanted = condition["condition"]
        assert wanted in ("service_healthy", "service_completed_successfully")
        assert wanted != "service_healthy" or "healthcheck" in SERVICES[other]
        assert wanted != "service_completed_successfully" or SERVICES[other]["restart"] == "no"
    if service["restart"] != "no":
        assert service["healthcheck"]["test"][0] == "CMD"
    for variable, value in service.get("environment", {}).items():
        assert isinstance(value, str), f"{variable} needs quotes"
        if re.search("PASSWORD|TOKEN|SECRET", variable):
            assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), f"{variable} has a value in the file"


def test_addresses_inside_are_those_of_services() -> None:
    text = (SERVER / "compose.yaml").read_text() + (SERVER / "observe" / "prometheus.yaml").read_text()
    text += (SERVER / "observe" / "datasource.yaml").read_text()
    told = set(re.findall(r"(?:http|mongodb)://([a-z][a-z0-9-]*):(\d+)", text)) | set(
        re.findall(r'"([a-z]+):(\d+)"', (SERVER / "observe" / "prometheus.yaml").read_text())
    )
    assert {host for host, _ in told} == {"mlflow", "mongo", "s3", "prometheus", "api"}
    own = {"mongo": "27017", "s3": "9000", "api": SERVICES["api"]["environment"]["OSV_PORT"]}
    for host, port in told:
        published = {one.rsplit(":", 1)[1] for one in SERVICES[host].get("ports", ())}
        assert port == own.get(host) or port in published, (host, port)


@pytest.mark.parametrize("name", ["api", "api-gpu"])
def test_the_api_in_compose(name: str, paths: set[str]) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["ports"][0].endswith(f":{PORT}")
    told = re.search(rf"127\.0\.0\.1:{PORT}(/\w+)", service["healthcheck"]["test"][-1])
    assert told is not None
    assert told[1] in paths
    assert service["environment"]["OSV_KEY_FILE"] == f"/run/secrets/{service['secrets'][0]}"
    known = set(re.findall(r"OSV_[A-Z_]+", (SERVER / "README.md").read_text()))
    assert set(service["environment"]) <= known
    if name == "api-gpu":
        assert service["profiles"] == ["gpu"]
        [device] = service["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_the_dashboard(tmp_path: Path) -> None:
    """Whatever it asks for is what a server that has answered something says."""
    [source] = load("observe/datasource.yaml")["datasources"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in SERVICES["grafana"]["volumes"]}
    [provider] = load("observe/dashboards.yaml")["providers"]
    folder = SERVER / mounted[provider["options"]["path"]]
    [file] = folder.glob("*.json")
    board = json.loads(file.read_text())
    asked: set[str] = set()
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == source["uid"]
        asked |= {name for target in panel["targets"] for name in re.findall(r"\bosv_\w+", target["expr"])}
        assert all(target["expr"].count("(") == target["expr"].count(")") for target in panel["targets"])
    with start_server(write_tiny_model(tmp_path / "tiny.onnx")) as server, Client(server.url) as client:
        client.predict(np.zeros((8, 8, 3), np.uint8))
        said = httpx.get(f"{server.url}/metrics", trust_env=False).text
    served = set(re.findall(r"^(osv_\w+)", said, re.MULTILINE))
    assert len(asked) >= 10
    assert asked <= served
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_prometheus_reads_with_a_key_of_its_own() -> None:
    [job] = load("observe/prometheus.yaml")["scrape_configs"]
    [secret] = SERVICES["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert secret not in SERVICES["api"]["secrets"]
    files = load("compose.yaml")["secrets"]
    assert all(one["file"].startswith("./secrets/") for one in files.values())
    assert not (SERVER / "secrets").exists() or "server/secrets/" in (ROOT / ".gitignore").read_text()


# -- Kubernetes -----------------------------------------------------------------------------------------------


def resources(folder: str) -> dict[str, dict[str, Any]]:
    listed = load(f"k8s/{folder}/kustomization.yaml")
    assert listed["kind"] == "Kustomization"
    files = [*listed.get("resources", ()), *(one["path"] for one in listed.get("patches", ()))]
    there = {path.name for path in (SERVER / "k8s" / folder).iterdir()} - {"kustomization.yaml"}
    assert there == {name for name in files if name.endswith(".yaml")}, "every file is listed, and only those"
    return {
        document["kind"]: document
        for name in files
        if name.endswith(".yaml")
        for document in yaml.safe_load_all((SERVER / "k8s" / folder / name).read_text())
    }


BASE, GPU = resources("base"), resources("gpu")
API_VERSIONS = {
    "Deployment": "apps/v1",
    "Service": "v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "PersistentVolumeClaim": "v1",
}


def test_the_set_and_its_labels() -> None:
    assert set(BASE) == set(API_VERSIONS)
    for documents in (BASE, GPU):
        for kind, document in documents.items():
            assert document["apiVersion"] == API_VERSIONS[kind]
            assert document["metadata"]["name"]
    labels = BASE["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert BASE["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert BASE["Service"]["spec"]["selector"] == labels
    assert BASE["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert BASE["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    target = BASE["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", BASE["Deployment"]["metadata"]["name"])


def test_images_are_those_of_the_dockerfile() -> None:
    [container] = BASE["Deployment"]["spec"]["template"]["spec"]["containers"]
    name = container["image"].split(":")[0]
    for folder, stage in (("base", "cpu"), ("gpu", "cuda")):
        [image] = load(f"k8s/{folder}/kustomization.yaml")["images"]
        assert image == {"name": name, "newTag": stage}
        assert TARGETS[f"{name}:{stage}"] == stage
        assert stage in stages()


def test_the_pod(paths: set[str]) -> None:
    pod = BASE["Deployment"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    [port] = container["ports"]
    assert port == {"name": "http", "containerPort": PORT}
    for probe, path in (("startupProbe", "/ready"), ("readinessProbe", "/ready"), ("livenessProbe", "/health")):
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
        assert path in paths
    assert pod["terminationGracePeriodSeconds"] > int(container["lifecycle"]["preStop"]["exec"]["command"][1]) + 10
    for wanted in ("requests", "limits"):
        assert {"cpu", "memory"} <= set(container["resources"][wanted])
        assert all(QUANTITY.fullmatch(str(one)) for one in container["resources"][wanted].values())
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert set(mounts) == set(volumes)
    assert (
        volumes["models"]["persistentVolumeClaim"]["claimName"]
        == BASE["PersistentVolumeClaim"]["metadata"]["name"]
    )
    assert volumes["keys"]["secret"]["defaultMode"] == 0o440
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment["OSV_PORT"] == str(PORT)
    assert Path(environment["OSV_MODEL"]).parent == Path(mounts["models"])
    assert Path(environment["OSV_KEY_FILE"]).parent == Path(mounts["keys"])
    assert all(isinstance(value, str) for value in environment.values())
    assert set(environment) <= set(re.findall(r"OSV_[A-Z_]+", (SERVER / "README.md").read_text()))


def test_service_scaling_and_network() -> None:
    assert BASE["Service"]["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "http"}]
    for documents in (BASE, GPU):
        scaler = documents["HorizontalPodAutoscaler"]["spec"]
        assert 1 <= scaler["minReplicas"] < scaler["maxReplicas"]
    assert "replicas" not in BASE["Deployment"]["spec"], "the autoscaler decides"
    [metric] = BASE["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert 0 < metric["resource"]["target"]["averageUtilization"] < 100
    policy = BASE["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    [rule] = policy["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": PORT}]
    assert rule["from"]


def test_the_gpu_overlay() -> None:
    listed = load("k8s/gpu/kustomization.yaml")
    assert listed["resources"] == ["../base"]
    for kind, document in GPU.items():
        assert document["metadata"]["name"] == BASE[kind]["metadata"]["name"], "a patch is found by kind and name"
    pod = GPU["Deployment"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["name"] == BASE["Deployment"]["spec"]["template"]["spec"]["containers"][0]["name"]
    for wanted in ("requests", "limits"):
        assert container["resources"][wanted]["nvidia.com/gpu"] == "1"
