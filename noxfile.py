"""The steps of ``.ci/run``, each for itself: ``nox -s lint``; ``nox -l`` lists them.

A session has an environment of its own, with torch installed first. On Linux a CPU build is much
smaller: ``PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu`` lets pip find it.
``nox --no-venv -s lint`` installs into the active environment and runs there.
"""

import re
import time
import zipfile
from pathlib import Path

import nox

TORCH = "torch==2.13.0"  # a CPU build of it is at hand where CI runs
ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml("pyproject.toml")

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "types", "layers", "tests"]


def pip_install(session, *requirements):
    """Install, in the active environment too."""
    session.run("python", "-m", "pip", "install", "--quiet", *requirements)


def install(session, *requirements):
    """Install torch, and then the rest, which may bring no other."""
    pip_install(session, TORCH)
    if requirements:
        pip_install(session, *requirements)


def group(name):
    """Return the requirements of a dependency group."""
    return nox.project.dependency_groups(PROJECT, name)


def readme(part):
    """Return the commands of the README that contain a text, to the letter."""
    text = (ROOT / "README.md").read_text()
    lines = "".join(re.findall(r"^```bash\n(.*?)^```", text, re.S | re.M)).splitlines()
    found = [line for line in lines if part in line]
    if not found:
        raise LookupError(f"the README gives no command with {part!r}")
    return found


def shell(session, command):
    """Run a command as a person would."""
    session.run("bash", "-euc", command, external=True)


@nox.session
def tests(session):
    """Run the quick tests, doctests and docstrings by the README's command."""
    install(session)
    shell(session, readme("pytest")[0])


@nox.session
def slow(session):
    """Run the tests that take more than a few seconds each, and the laws with more examples."""
    install(session, ".[test]")
    chosen = ("-m", "slow or hypothesis", "--hypothesis-profile", "slow")
    session.run("pytest", "-n", "auto", *chosen, *session.posargs)


@nox.session
def oldest(session):
    """Run the quick tests on the oldest dependencies that pyproject.toml admits."""
    install(session, "-c", ".ci/oldest_versions.txt", ".[test]")
    session.run("python", "-m", "pip", "check")
    session.run("python", "-m", "pip", "list")
    session.run("pytest", "-q", "-n", "auto", "-m", "not slow", *session.posargs)


@nox.session
def lint(session):
    """Check style and format."""
    pip_install(session, *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session):
    """Check the types."""
    install(session, ".[test]", *group("lint"))
    session.run("mypy")


@nox.session
def layers(session):
    """Check that imports go downward."""
    pip_install(session, *group("lint"))
    session.run("lint-imports")


@nox.session
def docs(session):
    """Build the documentation, without running its gallery."""
    install(session, ".[doc]")
    out = str(Path(session.create_tmp()).resolve() / "html")
    with session.chdir("doc"):
        session.run(
            *("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", ".", out),
            env={"SKROBUST_GALLERY": "0"},
        )


@nox.session
def examples(session):
    """Run the examples, by the README's commands where it has them; each has to draw something."""
    install(session)
    commands = readme("python examples/")
    paths = [path.relative_to(ROOT) for path in sorted((ROOT / "examples").glob("plot_*.py"))]
    others = [f"python {path}" for path in paths if not any(str(path) in one for one in commands)]
    for command in [*commands, *others]:
        started = time.time()
        shell(session, command)
        files = [path for end in ("png", "html") for path in ROOT.glob(f"*.{end}")]
        drawn = [path for path in files if path.stat().st_mtime >= started]
        if not any(path.suffix == ".png" and path.stat().st_size for path in drawn):
            session.error(f"{command} drew nothing")
        for path in drawn:
            path.unlink()


@nox.session
def benchmarks(session):
    """Run the benchmarks and the studies at toy size."""
    install(session, ".[test]", *group("bench"))
    work = str(Path(session.create_tmp()).resolve())
    env = {"HOME": work, "SKROBUST_BENCH": "smoke", "SKROBUST_STUDIES": work}
    python = session.run("python", "-c", "import sys; print(sys.executable)", silent=True).strip()
    with session.chdir("asv_benches"):
        session.run("asv", "machine", "--yes", env=env, silent=True)
        options = ("--quick", "--dry-run", "--show-stderr")
        out = session.run("asv", "run", "-E", f"existing:{python}", *options, env=env, silent=True)
        session.log(out)
        if re.search("failed|Traceback", out):
            session.error("a benchmark failed")

        def study(*arguments, row=None):
            out = session.run("python", "-m", "studies", *arguments, env=env, silent=True)
            session.log(out)
            if row is not None and f"\n| {row} " not in out:
                session.error(f"{arguments[0]} has no row {row}")

        study("no_flip", "500")
        study("knn_gap", "2")
        study("solver_times", "60", "5", "1")
        study("fit_time")
        for name, data, methods in (
            (
                "metric",
                "dna",
                "Euclidean;NCA;paper;projected;default;default+pruning;default+Wilson",
            ),
            ("deep", "omniglot", "plain;MP'' .1"),
            ("cluster", "fashion", "plain;EAT, mixed"),
            ("guarantee", "mnist", "1-NN;Lipschitz, centroids;smoothing .5;prototypes, auto"),
        ):
            study(name, "run", "--data", data, "--seeds", "0", "--methods", methods)
            study(name, "table", row=methods.split(";")[-1])
        study("deep_cost")
        study("guarantee_settings")


@nox.session(venv_backend="venv")
def wheel(session):
    """Build wheel and sdist, and run the page to get started with the wheel alone."""
    work = Path(session.create_tmp()).resolve()
    install(session, "build")
    session.run("python", "-m", "build", "--outdir", str(work / "dist"), silent=True)
    (built,), (_,) = (list((work / "dist").glob(f"*.{end}")) for end in ("whl", "tar.gz"))
    if "skrobust/py.typed" not in zipfile.ZipFile(built).namelist():
        session.error("the wheel has no skrobust/py.typed")
    pip_install(session, f"{built}[plot]")
    page = (ROOT / "doc" / "getting_started.md").read_text()
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.S | re.M))
    (work / "started.py").write_text(code)
    with session.chdir(work):
        session.run("python", "started.py")


@nox.session
def lock(session):
    """Write the releases that the development tools and the tests were last seen with."""
    install(session, ".[test,doc]", *group("dev"))
    out = session.run("python", "-m", "pip", "freeze", "--exclude", "skrobust", silent=True)
    pins = [line for line in out.splitlines() if re.match(r"[\w.-]+==", line)]
    pins = [line for line in pins if not re.match("torch==|nvidia-|cuda-|triton==", line)]
    head = [
        "# Written by: nox -s lock (Python 3.11, Linux). torch is not in it: install that first,",
        "# as a CPU build or for your GPU; then: pip install -r requirements-dev.txt -e .",
    ]
    (ROOT / "requirements-dev.txt").write_text("\n".join([*head, *pins]) + "\n")
