"""The tools of a build in containers: nothing of the host but the build's folder and Vivado.

Each step is one ``docker run`` of an image that is checked first and named by its digest. The
process inside is not root, has no capability, no network and a read-only image; it sees the
build's folder as ``/build`` and, for Vivado, XILINX_VIVADO read-only. ``ADAQAT_DOCKER`` names
another program with Docker's command line, ``ADAQAT_IMAGE`` another image.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from adaqat_hw.compile.environment import (
    CODE,
    LICENCE_VARIABLES,
    Command,
    Compiler,
    make_scratch,
    scratch_variables,
)
from adaqat_hw.errors import ConfigError, ToolNotFound
from adaqat_hw.qonnx_file import external_files
from adaqat_hw.resources import flows_dir, package_root
from adaqat_hw.run import BuildFolder, ExportFolder
from adaqat_hw.schema import BuildEnvironment, BuildRequest, Env
from adaqat_hw.schema.build_files import REQUEST, SCRATCH
from adaqat_hw.tools import FINN_PLUS_VERSION, find_program
from adaqat_hw.tools.run_program import Ended, run_program

IMAGE = f"adaqat-hw-vivado:finn-plus-{FINN_PLUS_VERSION}"
LABEL = "adaqat-hw.finn-plus"
INSIDE = "/build"
_LICENCE_INSIDE = "/licence/xilinx.lic"
_BUILD_HINT = "make it as docker/README.md says, or set ADAQAT_IMAGE"
_ASK_S = 120.0


@dataclass(frozen=True)
class Image:
    """An image that was found: how it was asked for, and its digest."""

    reference: str
    digest: str


class Docker:
    """Containers of the image with FINN."""

    name: Env = "docker"

    def describe(self) -> BuildEnvironment:
        """Return the record of this environment.

        Raises:
            ToolNotFound: no Docker, no daemon, no image, or an image with another finn-plus.
            ConfigError: the caller is root.
        """
        _user()
        image = self._image
        return BuildEnvironment(env="docker", image=image.reference, image_id=image.digest)

    @functools.cached_property
    def _image(self) -> Image:
        return find_image()

    def compiler(self, compiler: Compiler, request: BuildRequest, folder: BuildFolder) -> Command:
        """Copy model and code into ``folder`` and return the ``docker run`` of the compiler."""
        scratch = folder.scratch
        make_scratch(scratch)
        request.write(folder.request)
        _copy_code(scratch / CODE)
        inside = f"{INSIDE}/{SCRATCH}"
        _copy_inputs(request, scratch).write(scratch / REQUEST)
        script, request_path = f"{inside}/{CODE}/{compiler.script}", f"{inside}/{REQUEST}"
        argv = self._run(
            folder.path,
            [compiler.image_python, script, request_path, INSIDE],
            scratch_variables(compiler, inside),
        )
        return self._command(argv, folder.path)

    def vivado(self, arguments: list[str], folder: Path, work: Path) -> Command:
        """Return the ``docker run`` of the host's Vivado in ``work``.

        Raises:
            ToolNotFound: XILINX_VIVADO is not set or holds no Vivado.
        """
        root = _vivado_root()
        inside = f"{INSIDE}/{work.relative_to(folder).as_posix()}"
        (work / "home").mkdir(parents=True, exist_ok=True)
        variables = {"HOME": f"{inside}/home", "TMPDIR": f"{inside}/home"}
        variables |= {"XILINX_VIVADO": str(root)}
        mounts = [(str(root), str(root))]
        server = False
        for name in LICENCE_VARIABLES:
            licence = os.environ.get(name)
            if licence is None:
                continue
            if "@" in licence:  # port@server: the only case that needs a network
                server = True
                variables[name] = licence
            elif Path(licence).is_file():
                mounts.append((str(Path(licence).resolve()), _LICENCE_INSIDE))
                variables[name] = _LICENCE_INSIDE
            else:
                raise ConfigError(
                    f"{name} is {licence!r}, which is neither a licence file nor port@server; "
                    "correct it or unset it."
                )
        argv = self._run(
            folder,
            [f"{root}/bin/vivado", *arguments],
            variables,
            workdir=inside,
            mounts=list(dict.fromkeys(mounts)),
            network="bridge" if server else "none",
        )
        return self._command(argv, folder)

    def _run(
        self,
        folder: Path,
        inner: list[str],
        variables: dict[str, str],
        *,
        workdir: str = INSIDE,
        mounts: list[tuple[str, str]] | None = None,
        network: str = "none",
    ) -> list[str]:
        """Return the argument list of one ``docker run``."""
        argv = [str(docker()), "run", "--rm", "--init", "--name", container_name(folder)]
        argv += ["--user", _user(), "--network", network, "--pull", "never"]
        argv += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        argv += ["--read-only", "--tmpfs", "/tmp"]  # noqa: S108 - inside the container
        argv += ["--mount", _mount(str(folder), INSIDE, read_only=False)]
        for source, target in mounts or []:
            argv += ["--mount", _mount(source, target, read_only=True)]
        argv += ["--workdir", workdir]
        for name, value in variables.items():
            argv += ["--env", f"{name}={value}"]
        return [*argv, "--entrypoint", inner[0], self._image.digest, *inner[1:]]

    def _command(self, argv: list[str], folder: Path) -> Command:
        # What a killed build left running goes first: the caller holds the folder's lock.
        remove_container(folder)
        return Command(argv, dict(os.environ), lambda: remove_container(folder))


def docker() -> Path:
    """Return Docker's command."""
    hint = "build with --env local, install Docker"
    return find_program("docker", variable="ADAQAT_DOCKER", hint=hint)


def container_name(folder: Path) -> str:
    """Return the one name that containers of the build in ``folder`` have."""
    return "adaqat-" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


def remove_container(folder: Path) -> None:
    """End the container of the build in ``folder``, if there is one."""
    _query(["rm", "--force", container_name(folder)])


def find_image() -> Image:
    """Return the image, once it is known to be the right one.

    Raises:
        ToolNotFound: no Docker, no daemon, no such image, or one with another finn-plus.
    """
    reference = os.environ.get("ADAQAT_IMAGE") or IMAGE
    ended = _query(["image", "inspect", reference])
    if ended.status != 0:
        answer = " ".join(ended.stderr.split())
        if "daemon" in answer and "No such image" not in answer:
            raise ToolNotFound(
                f"Docker does not answer ({answer[:200]}); start it, or build with --env local."
            )
        raise ToolNotFound(f"There is no image {reference!r}; {_BUILD_HINT}.")
    try:
        (body,) = json.loads(ended.stdout)
        digest, labels = str(body["Id"]), dict(body["Config"]["Labels"] or {})
    except (ValueError, KeyError, TypeError) as exc:
        raise ToolNotFound(f"Docker says of image {reference!r} what cannot be read.") from exc
    version = labels.get(LABEL)
    if version != FINN_PLUS_VERSION:
        raise ToolNotFound(
            f"Image {reference!r} has the label {LABEL}={version!r}, and this release needs "
            f"{FINN_PLUS_VERSION!r}; {_BUILD_HINT}."
        )
    return Image(reference, digest)


def _query(arguments: list[str]) -> Ended:
    program = docker()
    ended = run_program([program, *arguments], separate=True, limit_s=_ASK_S)
    if ended.expired:
        raise ToolNotFound(
            f"{str(program)!r} does not answer within {_ASK_S:g} s; start Docker, or build with "
            "--env local."
        )
    return ended


def _user() -> str:
    """Return who the process inside is: the caller, so that the files belong to him."""
    if os.getuid() == 0:
        raise ConfigError(
            "--env docker runs nothing as root and the caller is root; run it as an ordinary user "
            "who may use Docker."
        )
    return f"{os.getuid()}:{os.getgid()}"


def _mount(source: str, target: str, *, read_only: bool) -> str:
    """Return the value of ``--mount``; a comma or quote in a path stays part of it."""
    text = io.StringIO()
    fields = ["type=bind", f"source={source}", f"target={target}"]
    csv.writer(text, lineterminator="").writerow(fields + (["readonly"] if read_only else []))
    return text.getvalue()


def _vivado_root() -> Path:
    folder = os.environ.get("XILINX_VIVADO")
    if not folder:
        raise ToolNotFound(
            "XILINX_VIVADO is not set; set it to the folder of one Vivado version, which is "
            "mounted read-only (such as /tools/Xilinx/Vivado/2022.2)."
        )
    root = Path(folder).resolve()
    if not os.access(root / "bin" / "vivado", os.X_OK):
        raise ToolNotFound(
            f"XILINX_VIVADO is {folder!r}, which holds no bin/vivado; set it to the folder of one "
            "Vivado version."
        )
    return root


def _copy_code(target: Path) -> None:
    """Copy what the compiler imports: the flow, records, errors, the view of graphs."""
    hidden = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(flows_dir(), target / "flows", ignore=hidden)
    package, copied = package_root() / "adaqat_hw", target / "adaqat_hw"
    shutil.copytree(package / "schema", copied / "schema", ignore=hidden)
    for name in ("__init__.py", "errors.py", "qonnx_graph.py"):
        shutil.copyfile(package / name, copied / name)


def _copy_inputs(request: BuildRequest, scratch: Path) -> BuildRequest:
    """Copy the model and its golden frames into ``scratch``; return the request inside."""
    model = Path(request.model)
    if not model.is_file():
        raise ConfigError(f"QONNX file {request.model!r} does not exist; export again.")
    inputs = ExportFolder(scratch / "inputs")
    inputs.path.mkdir()
    shutil.copyfile(model, inputs.model)
    for name in external_files(model):
        (inputs.path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model.parent / name, inputs.path / name)
    inside = {"model": _inside(inputs.model, scratch)}
    if request.golden is not None:
        shutil.copyfile(request.golden, inputs.golden)
        inside["golden"] = _inside(inputs.golden, scratch)
    return request.model_copy(update=inside)


def _inside(path: Path, scratch: Path) -> str:
    return f"{INSIDE}/{SCRATCH}/{path.relative_to(scratch).as_posix()}"
