"""Holds Kubernetes objects against the models of their kinds: python models.py FILE…, each of them YAML.

`scripts/tools kubernetes-models` has a Python for it. The models of Kubernetes 1.37 and Istio 1.31 are generated from their
OpenAPI schemas and CRDs (packages cloudcoil-models-kubernetes and -istio, Apache-2.0). They are for a newer Python, and ignore
fields that they do not know, as a cluster does: here they are loaded without what only builds objects, and refuse such fields.
Those of Gateway API and Envoy Gateway are in gateways.py: no package has them.

Prints a line for each object, and fails if one is refused.
"""

import __future__

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import pathlib
import sys
import types
from typing import Any, Never, Self

import pydantic
import yaml

import gateways
from strict import LabelSelector, ObjectMeta, Quantity, Strict

FOLDERS = {
    "": "kubernetes.core",
    "apps": "kubernetes.apps",
    "networking.k8s.io": "kubernetes.networking",
    "policy": "kubernetes.policy",
    "rbac.authorization.k8s.io": "kubernetes.rbac",
    "extensions.istio.io": "istio.extensions",
    "networking.istio.io": "istio.networking",
    "telemetry.istio.io": "istio.telemetry",
}


class Plain(importlib.machinery.SourceFileLoader):
    """Loads a module of models without the classes and methods that build them, its annotations read when they are needed."""

    def source_to_code(self, data, path, *, _optimize=-1):
        tree = ast.parse(data)
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                node.body = [part for part in node.body if not isinstance(part, (ast.ClassDef, ast.FunctionDef))] or [
                    ast.Pass()
                ]
        return compile(tree, path, "exec", __future__.annotations.compiler_flag, dont_inherit=True, optimize=_optimize)

    def set_data(self, path, data, *, _mode=0o666):
        """Caches nothing: another loader would take it for its own."""

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class Finder(importlib.abc.MetaPathFinder):
    """Finds modules of models, one by one: their packages' own code would load them all."""

    root = next(filter(pathlib.Path.is_dir, (pathlib.Path(entry, "cloudcoil", "models") for entry in sys.path)))

    def find_spec(self, name, path=None, target=None):
        if name == "cloudcoil" or not name.startswith("cloudcoil."):
            return None
        place = self.root.joinpath(*name.split(".")[2:])
        if place.is_dir():
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(place)]
            return spec
        file = place.with_suffix(".py")
        return (
            importlib.util.spec_from_file_location(name, file, loader=Plain(name, str(file))) if file.exists() else None
        )


def stand_in(name, **members):
    """A module that the models import."""
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module


class Rest(Strict):
    """A part that no object of ours has."""


BUILDERS = ["BaseBuilder", "BaseModelBuilder", "BuilderContextBase", "GenericListBuilder", "ListBuilderContext"]
RESTS = ["Condition", "DeleteOptions", "FieldSelectorRequirement", "GroupResource", "LabelSelectorRequirement"]
stand_in("cloudcoil.pydantic", BaseModel=Strict, UNSET=None, Never=Never, Self=Self, **dict.fromkeys(BUILDERS, object))
stand_in("cloudcoil.resources", Resource=Strict, ResourceList=list)
stand_in(
    "cloudcoil.apimachinery",
    ObjectMeta=ObjectMeta,
    LabelSelector=LabelSelector,
    Quantity=Quantity,
    Time=str,
    MicroTime=str,
    IntOrString=int | str,
    RawExtension=dict[str, Any],
    **dict.fromkeys(RESTS, Rest),
)
sys.meta_path.insert(0, Finder())


def model(api, kind):
    """The model of this kind; None where there is none."""
    group, _, version = api.rpartition("/")
    if group in FOLDERS:
        module = importlib.import_module(f"cloudcoil.models.{FOLDERS[group]}.{version}")
    else:
        module = gateways.MODULES.get(api)
    found = getattr(module, kind, None)
    if found is not None:
        found.model_rebuild(_types_namespace=vars(sys.modules[found.__module__]))
    return found


def main(files):
    refused = 0
    for file in files:
        for document in yaml.safe_load_all(pathlib.Path(file).read_text()):
            name = f"{file}: {document['kind']} {document['metadata']['name']}"
            found = model(document["apiVersion"], document["kind"])
            if found is None:
                print(f"NO MODEL: {name}")
                refused += 1
                continue
            try:
                found.model_validate(document)
                print(f"valid: {name}")
            except pydantic.ValidationError as error:
                print(f"INVALID: {name}\n{error}")
                refused += 1
    return refused


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
