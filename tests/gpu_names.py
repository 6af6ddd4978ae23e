"""Which names of TensorRT, PyCUDA and cuda-bindings a source touches, and which of them are not there."""

from __future__ import annotations

import ast
import builtins
import importlib
import os
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

Api = Mapping[str, set[str]]  # the names in each class of a module, and in the module itself under ""

GPU = {"tensorrt", "tensorrt_rtx_bindings", "pycuda", "cuda", "jetson_utils"}


def api_of(stub: Path) -> Api:
    """What a type stub says that its module holds."""
    found: dict[str, set[str]] = {"": set()}

    def collect(body: Sequence[ast.stmt], owner: str) -> None:
        for node in body:
            found[owner] |= _bound(node)
            if isinstance(node, ast.ClassDef):
                found[node.name] = {name for base in node.bases for name in found.get(ast.unparse(base), ())}
                collect(node.body, node.name)

    collect(ast.parse(stub.read_text()).body, "")
    return found


def missing(source: str, apis: Mapping[str, Sequence[Api]], known: set[str]) -> list[str]:
    """The names that the source touches and that do not exist, each with its line.

    `apis`: of each GPU module, all versions. What the source takes from a module or one of its classes must be there in
    all of them. Any other attribute must be in `known`, or in some class of one module in all its versions. A name that
    hasattr or getattr asks for in the same function or class is that source's own affair.
    """
    tree = ast.parse(source)
    owners = _owners(tree)
    found = []
    for statement in tree.body:
        asked = set(_asked_for(statement))
        for node in ast.walk(statement):
            if isinstance(node, ast.Attribute) and node.attr not in asked:
                module, _, owner = _resolve(node.value, owners).partition(":")
                versions = apis.get(module, [])
                if any(owner in api for api in versions):
                    exists = all(node.attr in api.get(owner, ()) for api in versions)
                else:
                    exists = node.attr in known or _somewhere(node.attr, apis)
                if not exists:
                    found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def knows_a_gpu(source: str) -> bool:
    """Whether the source imports a GPU module, or has a function that takes one."""
    return any(owner.split(".")[0].split(":")[0] in GPU for owner in _owners(ast.parse(source)).values())


def _owners(tree: ast.Module) -> dict[str, str]:
    """The source's names for modules, "tensorrt", and for what is in them, "tensorrt:Builder"."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.arg == "trt":  # how a function says that it takes the module
            found["trt"] = "tensorrt"
        elif isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _resolve(node.value, found):
            found[node.targets[0].id] = _resolve(node.value, found)
    return found


def _resolve(node: ast.expr, owners: Mapping[str, str]) -> str:
    """What `_owners` would call the expression; empty for what it does not know."""
    if isinstance(node, ast.Name):
        return owners.get(node.id, "")
    if isinstance(node, ast.Attribute):
        module = _resolve(node.value, owners)
        return f"{module}:{node.attr}" if module and ":" not in module else ""
    return ""


def _somewhere(name: str, apis: Mapping[str, Sequence[Api]]) -> bool:
    """Whether some class of one module has the name, in all versions of that module."""
    return any(all(any(name in names for names in api.values()) for api in versions) for versions in apis.values())


def _asked_for(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
            name = node.args[1]
            optional = node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3)
            if optional and isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value


def own_names(paths: Iterable[Path]) -> set[str]:
    """All that these sources define themselves: functions, classes, variables, attributes."""
    return {name for path in paths for node in ast.walk(ast.parse(path.read_text())) for name in _bound(node)}


def python_names(source: str) -> set[str]:
    """What is in Python itself and in the modules that the source imports, and in all their classes."""
    modules = {builtins, os, types, *(importlib.import_module(name) for name in _imports(source))}
    members = [member for module in modules for member in vars(module).values()]
    holders = [*modules, *(member for member in members if isinstance(member, type))]
    return {name for holder in holders for name in dir(holder)}


def _imports(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] not in {*GPU, "edgeface"}}


def _bound(node: ast.AST) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return set()
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    stored = [part for target in targets for part in ast.walk(target) if isinstance(getattr(part, "ctx", 0), ast.Store)]
    return {part.id if isinstance(part, ast.Name) else getattr(part, "attr", "") for part in stored}
