"""`__all__` equals reality, and every public name is explained."""

import ast
import dataclasses
import enum
import importlib
import inspect

import pytest

from tests.test_layers import FOLDERS, MODULES

PUBLIC = [name for name in MODULES if name != "fastswitch" and not name.rpartition(".")[2].startswith("_")]
PACKAGES = [name for name in PUBLIC if MODULES[name].name == "__init__.py"]


def load(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        pytest.skip(f"{name} needs {error.name}")


def defined_in(module):
    """Public classes and functions that the module's source defines; a command belongs to its app."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    nodes = [node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))]
    commands = [node for node in nodes if any(".command(" in ast.unparse(each) for each in node.decorator_list)]
    return {node.name for node in nodes if not node.name.startswith("_") and node not in commands}


@pytest.mark.parametrize("name", PUBLIC)
def test_all_is_real_and_has_no_duplicates(name):
    module = load(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert hasattr(module, public), public
        assert not public.startswith("_")


@pytest.mark.parametrize("name", PUBLIC)
def test_all_is_sorted(name):
    """Constants, then classes, then functions, as ruff sorts them."""
    names = load(name).__all__
    assert names == sorted(names, key=lambda each: (not each.isupper(), each[0].islower(), each))


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in PACKAGES])
def test_all_holds_everything_public_that_is_defined_here(name):
    assert defined_in(name) <= set(load(name).__all__)


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_define_nothing(name):
    assert not defined_in(name)


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_exports_come_from_its_own_modules(folder):
    package = load(f"fastswitch.{folder}")
    for public in package.__all__:
        module = getattr(getattr(package, public), "__module__", package.__name__) or package.__name__
        if module.startswith("fastswitch."):
            assert module.startswith(package.__name__), public


def unexplained(tree):
    """Public names without a docstring: functions, classes, and their methods and properties."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    todo = [("", node) for node in tree.body]
    while todo:
        prefix, node = todo.pop()
        if not isinstance(node, kinds) or node.name.startswith("_"):
            continue
        if any(ast.unparse(each).rpartition(".")[2] in {"overload", "setter"} for each in node.decorator_list):
            continue
        if not ast.get_docstring(node):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            todo.extend((f"{prefix}{node.name}.", child) for child in node.body)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_explained(name):
    assert not list(unexplained(ast.parse(MODULES[name].read_text(encoding="utf-8"))))


def behaves(public):
    """Whether an example would show anything: not of a protocol, a value, an enumeration, an error."""
    if inspect.isfunction(public):
        return True
    is_value = dataclasses.is_dataclass(public) or issubclass(public, (tuple, enum.Enum, BaseException))
    return not is_value and not getattr(public, "_is_protocol", False)


def has_example(public):
    """In its own docstring, or in one of its methods'."""
    members = vars(public).values() if inspect.isclass(public) else ()
    docstrings = [public.__doc__, *(getattr(member, "__doc__", None) for member in members)]
    return any(">>>" in docstring for docstring in docstrings if docstring)


@pytest.mark.parametrize("folder", ["memory", "sched"])
def test_what_behaves_has_an_example(folder):
    """tests/<folder>/test_doctests.py runs them."""
    package = load(f"fastswitch.{folder}")
    exported = [getattr(package, name) for name in package.__all__ if not name.isupper()]
    behaving = [public for public in exported if behaves(public)]
    assert len(behaving) > 10
    assert [public.__name__ for public in behaving if not has_example(public)] == []


def raised_by(function):
    """Names of the errors that a function raises itself, made on the spot."""
    todo, found = list(function.body), set()
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.add(ast.unparse(node.exc.func).rpartition(".")[2])
        todo.extend(ast.iter_child_nodes(node))
    return {name for name in found if name[0].isupper() and name not in {"NotImplementedError", "SystemExit", "Exit"}}


def unexplained_errors(nodes, owner=None):
    """(function, error) where the docstring, of a constructor the class's, leaves the error out."""
    for node in nodes:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from unexplained_errors(node.body, node)
        if isinstance(node, ast.FunctionDef):
            constructs = owner is not None and node.name in {"__init__", "__post_init__"}
            if constructs or not node.name.startswith("_"):
                docstring = ast.get_docstring(owner if constructs else node) or ""
                yield from ((node.name, error) for error in raised_by(node) if error not in docstring)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_error_is_named(name):
    assert not list(unexplained_errors(ast.parse(MODULES[name].read_text(encoding="utf-8")).body))
