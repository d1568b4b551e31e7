"""Prints what `docker run` needs to run a pod of deploy/kubernetes as the manifest says: python pod.py MANIFEST SECRETS memory|no-memory

`scripts/tools kubernetes-models` has a Python for it. Printed are the words from the first option to the image's last argument, a NUL
behind each: whom the container runs as and what it may, its environment, volumes, command, and (with `memory`) memory. SECRETS has a
folder for each secret, and in it a file for each key. A field of a security context, or a volume, that is not known here is refused:
nothing that the manifest asks for is passed over.
"""

import pathlib
import sys

import yaml


def refuse(rest, what):
    if rest:
        sys.exit(f"pod.py: {what} has what is not known here: {rest}")


def of_pod(context):
    """Who the container is. The profile is what engines have as their own default; the test holds the process against it."""
    assert context.pop("runAsNonRoot") is True
    assert context.pop("seccompProfile") == {"type": "RuntimeDefault"}
    user, group = context.pop("runAsUser"), context.pop("runAsGroup")
    yield from ["--user", f"{user}:{group}", "--group-add", str(context.pop("fsGroup"))]
    refuse(context, "the pod's security context")
    assert user != 0


def of_container(context):
    if context.pop("readOnlyRootFilesystem", False):
        yield "--read-only"
    if context.pop("allowPrivilegeEscalation", True) is False:
        yield from ["--security-opt", "no-new-privileges"]
    capabilities = context.pop("capabilities", {})
    for capability in capabilities.pop("drop", []):
        yield from ["--cap-drop", capability]
    refuse(capabilities, "the capabilities")
    refuse(context, "the container's security context")


def of_volumes(pod, claims, mounts, secrets):
    """A secret is a folder of what was made up for the occasion; a claim is a folder in memory that everybody may write to."""
    volumes = {volume.pop("name"): volume for volume in pod.get("volumes", [])}
    volumes |= {claim["metadata"]["name"]: {"claim": claim} for claim in claims}
    for mount in mounts:
        volume = volumes.pop(mount["name"])
        if "secret" in volume:
            options = "ro" if mount.get("readOnly") else "rw"
            yield from ["--volume", f"{secrets / volume['secret']['secretName']}:{mount['mountPath']}:{options}"]
        elif "claim" in volume:
            yield from ["--tmpfs", f"{mount['mountPath']}:mode=1777"]
        else:
            refuse(volume, "a volume")
    refuse(volumes, "the pod")


def words(manifest, secrets, memory):
    documents = yaml.safe_load_all(pathlib.Path(manifest).read_text())
    (owner,) = [document for document in documents if document["kind"] in ("Deployment", "StatefulSet")]
    pod = owner["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    yield from of_pod(pod["securityContext"])
    yield from of_container(container["securityContext"])
    yield from of_volumes(pod, owner["spec"].get("volumeClaimTemplates", []), container["volumeMounts"], secrets)
    for variable in container.get("env", []):
        yield from ["--env", f"{variable['name']}={variable['value']}"]
    if memory:
        yield from ["--memory", container["resources"]["limits"]["memory"].replace("Mi", "m")]
    program, *arguments = container.get("command", []) or [None]
    if program:
        yield from ["--entrypoint", program]
    yield container["image"]
    yield from [*arguments, *container.get("args", [])]


if __name__ == "__main__":
    _, manifest, secrets, memory = sys.argv
    for word in words(manifest, pathlib.Path(secrets).absolute(), memory == "memory"):
        sys.stdout.write(f"{word}\0")
