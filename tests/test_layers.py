"""Who may import whom, read off the source of every module, and what loads with a part, seen in a fresh process."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fastswitch"
FOLDERS = ("kernels", "memory", "sched", "engine")
CLI, ENTRY, MAIN = "fastswitch.engine.cli", "fastswitch.engine.entry", "fastswitch.__main__"
HEAVY = {"transformers", "typer", "rich", "matplotlib", "tokenizers", "safetensors"}


def name_of(path):
    """fastswitch/memory/tier.py -> fastswitch.memory.tier"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def modules_of(folder):
    return [name for name in MODULES if name.split(".")[1:2] == [folder]]


def imported_names(nodes, module):
    """Absolute dotted names of what the import statements among ``nodes`` load."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import"
            # `from fastswitch import memory` loads fastswitch.memory, too
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports(module):
    """Everything that the module imports, in functions and for type checkers too."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    return set(imported_names(ast.walk(tree), module))


def imports_when_loaded(module):
    """What the module imports at once, guarded or not; not what its functions import."""
    todo = ast.parse(MODULES[module].read_text(encoding="utf-8")).body
    found = set()
    while todo:
        node = todo.pop()
        found |= set(imported_names([node], module))
        function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not function and not for_types:
            todo.extend(ast.iter_child_nodes(node))
    return found


def folders_of(names):
    return {name.split(".")[1] for name in names if re.match(r"fastswitch\.[a-z]", name)}


def tops_of(names):
    return {name.split(".")[0] for name in names}


def python(program):
    """Run it in a fresh interpreter from the checkout; fail with what it says."""
    env = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "TRITON_INTERPRET"}}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def without(*packages):
    """The head of a program in which these packages are not installed."""
    return f"""
import sys
class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, NotInstalled())
"""


def test_the_package_has_its_four_folders():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(FOLDERS)
    assert len(MODULES) > 40


@pytest.mark.parametrize("folder", ["kernels", "memory", "sched"])
def test_parts_import_nothing_of_each_other(folder):
    for module in modules_of(folder):
        assert folders_of(imports(module)) <= {folder}, module


def test_nothing_imports_the_engine_but_the_engine():
    for module in MODULES:
        if not module.startswith("fastswitch.engine") and module != MAIN:
            assert "engine" not in folders_of(imports(module)), module


def test_sched_is_pure_python():
    for module in modules_of("sched"):
        assert tops_of(imports(module)) <= {"fastswitch", *sys.stdlib_module_names}, module


def test_memory_needs_numpy_and_only_the_pool_needs_torch_and_only_the_plot_matplotlib():
    more = {"fastswitch.memory.pool": {"torch"}, "fastswitch.memory.plot": {"matplotlib"}}
    for module in modules_of("memory"):
        allowed = {"fastswitch", "numpy", *more.get(module, ()), *sys.stdlib_module_names}
        assert tops_of(imports(module)) <= allowed, module
        assert "fastswitch.memory.pool" not in {name.rpartition(".")[0] for name in imports(module)}, module


def test_kernels_need_torch_triton_einops_and_numpy():
    for module in modules_of("kernels"):
        allowed = {"fastswitch", "numpy", "torch", "triton", "einops", "cuda", *sys.stdlib_module_names}
        assert tops_of(imports(module)) <= allowed, module


def test_heavy_packages_are_imported_where_they_are_used():
    """But for the command line, which is made of Typer's decorators and options, and which only its entry imports."""
    for module in MODULES:
        allowed = {"typer"} if module in (CLI, f"{CLI.rpartition('.')[0]}.shared_options") else set()
        assert tops_of(imports_when_loaded(module)) & HEAVY <= allowed, module
        imports_it = any(name == CLI or name.startswith(f"{CLI}.") for name in imports(module))
        assert imports_it == (module == ENTRY), module


def test_every_module_says_what_it_is():
    for module, path in MODULES.items():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), module


def test_the_package_itself_holds_the_version_alone():
    docstring, *rest = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)
    assert [ast.unparse(node).split(" = ")[0] for node in rest] == ["__version__"]


@pytest.mark.parametrize(
    "module", ["fastswitch", "fastswitch.memory.block_group", "fastswitch.memory", "fastswitch.sched"]
)
def test_loads_neither_torch_nor_triton(module):
    loaded = python(f"import sys, {module}; print(*sys.modules)")
    assert module in loaded
    assert not {"torch", "triton", "einops", "transformers", "matplotlib"} & set(loaded)


def test_a_part_brings_no_other_part_along():
    loaded = python("import sys, fastswitch.memory; print(*sys.modules)")
    assert folders_of(name for name in loaded if name.startswith("fastswitch.")) == {"memory"}


def test_kernels_load_without_triton():
    names = modules_of("kernels")
    program = "import importlib, torch, fastswitch.kernels\n"
    program += f"for name in {names!r}: importlib.import_module(name)\n"
    program += "print(*(name for name in sys.modules if name.split('.')[0] == 'fastswitch'))\n"
    # the torch path serves
    program += "blocks = fastswitch.kernels.gather_blocks(torch.arange(8).view(4, 2), torch.tensor([2, 0]))\n"
    program += "assert blocks.tolist() == [[4, 5], [0, 1]], blocks\n"
    assert set(names) <= set(python(without("triton") + program))


def test_the_swap_coordinator_and_the_engine_need_torch_alone():
    program = "import fastswitch.engine.swap, fastswitch.engine\nprint(*fastswitch.engine.__all__)"
    assert {"Engine", "SwapCoordinator"} <= set(python(without(*HEAVY) + program))


def test_runs_uninstalled_from_its_checkout(tmp_path):
    """Without site-packages' record of it: the version needs no metadata."""
    program = f"""
import importlib.metadata, sys
sys.path = [{str(ROOT)!r}] + [each for each in sys.path if each not in ("", {str(ROOT)!r})]
def missing(*args, **kwargs):
    raise importlib.metadata.PackageNotFoundError("fastswitch")
importlib.metadata.version = importlib.metadata.distribution = missing
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
import fastswitch.memory, fastswitch.sched
print(fastswitch.__version__, fastswitch.__file__)
"""
    version, file = python(program)
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert Path(file) == PACKAGE / "__init__.py"
