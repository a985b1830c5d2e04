"""The openai package's own tests of the routes there are, run where its source archive is unpacked.

They come with the package's source at run time and are no part of the repository. They send ids of
models that are aliases here, and look at shapes alone.
"""

import fnmatch
import os
import pathlib
import subprocess
import sys
import tarfile
import xml.etree.ElementTree

import openai
import pytest

from serving import Server

pytest.importorskip("pytest_asyncio", reason="run by `run all`")
NAMES = ["gpt-6-astra", "gpt-3.5-turbo-instruct", "text-embedding-3-small"]
FILES = ["chat/test_completions.py", "test_completions.py", "test_models.py", "test_responses.py", "test_embeddings.py"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openai")
    wanted = f"openai=={openai.__version__}"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-binary", "openai", "--no-deps", wanted]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the source of {wanted} cannot be fetched: {done.stderr.strip()[-200:]}")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return pathlib.Path(folder, archive.name.removesuffix(".tar.gz"))


def outcomes(report):
    """Tests by file, class and name, and whether they passed."""
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        *path, group = case.get("classname").split(".")
        file = "/".join(path).removeprefix("tests/api_resources/") + ".py"
        kinds = {child.tag for child in case}
        assert "skipped" not in kinds, case.get("name")
        yield f"{file}::{group}::{case.get('name')}", not kinds & {"failure", "error"}


def test_the_packages_own_tests(source, tmp_path, record_property):
    lines = (pathlib.Path(__file__).parent / "openai_own_refused.txt").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    report = tmp_path / "report.xml"
    aliases = [part for name in NAMES for part in ("--alias", f"{name}=tiny")]
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command += [f"tests/api_resources/{file}" for file in FILES]
    with Server(*aliases) as server:
        environment = {**os.environ, "TEST_API_BASE_URL": server.v1}
        told = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, timeout=300)
    assert report.exists(), told.stdout[-2000:] + told.stderr[-2000:]
    used, passed, unexpected = set(), 0, []
    for name, is_well in outcomes(report):
        bare = name.split("[")[0]
        refused = [pattern for pattern in patterns if fnmatch.fnmatchcase(bare, pattern)]
        if is_well == bool(refused):
            unexpected.append(f"{name} {'passed' if is_well else 'failed'}")
        used.update(refused)
        passed += is_well
    print(f"\nthe openai package's own tests: {told.stdout.strip().splitlines()[-1]}")
    record_property("passed", passed)
    assert not unexpected, "\n".join(unexpected) + told.stdout[-3000:]
    assert used == set(patterns), "patterns that fit nothing: " + str(set(patterns) - used)
