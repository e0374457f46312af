# Two targets on the same layers: `web` (API and page) and `worker` (recognition).
# LOCK names the lock that is installed: run (default) or gpu (FAISS on the GPU).
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS packages
ARG LOCK=run
WORKDIR /src
RUN python -m venv /opt/ramq
COPY requirements/${LOCK}.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/ramq/bin/pip install --require-hashes -r requirements/${LOCK}.txt

FROM packages AS wheel
COPY . .
# What `ramq --version` names: docker build --build-arg COMMIT=$(git rev-parse --short=12 HEAD) …
ARG COMMIT=
RUN RAMQ_BUILD_COMMIT=${COMMIT} /opt/ramq/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel .

FROM python:${PYTHON}-slim AS base
COPY --from=packages /opt/ramq /opt/ramq
ENV PATH=/opt/ramq/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RAMQ_DATA_DIR=/var/lib/ramq \
    HOME=/var/lib/ramq
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/ramq ramq \
    && install -d -o ramq -g ramq /var/lib/ramq
# A layer of its own, of some megabytes: an upgrade with the same packages fetches no more than this.
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-deps --no-index --no-cache-dir /wheel/*.whl
USER 10001
WORKDIR /var/lib/ramq
VOLUME /var/lib/ramq

FROM base AS web
EXPOSE 8765
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8765/healthz', timeout=4)"]
CMD ["ramq", "web", "--host", "0.0.0.0"]

FROM base AS worker
STOPSIGNAL SIGTERM
# A worker is well while its heartbeat arrives in the database.
HEALTHCHECK --interval=60s --timeout=30s --start-period=120s \
    CMD ramq workers --json | python -c "import json, socket, sys; \
sys.exit(not any(w['is_alive'] and w['host'] == socket.gethostname() for w in json.load(sys.stdin)['items']))"
CMD ["ramq", "worker"]
