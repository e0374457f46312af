# Two targets on the same layers: `web` (API and page) and `worker` (recognition).
# LOCK names the lock that is installed: run (default) or gpu (FAISS on the GPU).
# TORCH_INDEX is an index of packages that has torch for CPUs alone. Without it, torch is the locked one, with CUDA.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS packages
ARG LOCK=run
ARG TORCH_INDEX=
RUN python -m venv /opt/ramq
COPY requirements/${LOCK}.txt /opt/ramq/lock.txt
# The lock has no hashes for the builds of that index, so they are installed first, and its CUDA is left out.
RUN --mount=type=cache,target=/root/.cache/pip \
    cd /opt/ramq; \
    if [ -n "${TORCH_INDEX}" ]; then \
      bin/pip install --no-deps --index-url "${TORCH_INDEX}" $(grep -Eo '^torch(vision)?==[0-9.]+' lock.txt) \
      && awk '/^[a-z]/ { kept = !/^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z-]+)==/ } kept' lock.txt > cpu.txt \
      && bin/pip install --no-deps --require-hashes -r cpu.txt; \
    else bin/pip install --require-hashes -r lock.txt; fi

FROM packages AS wheel
WORKDIR /src
COPY . .
# What `ramq --version` names: docker build --build-arg COMMIT=$(git rev-parse --short=12 HEAD) …
ARG COMMIT=
RUN RAMQ_BUILD_COMMIT=${COMMIT} /opt/ramq/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel .

# Layers of some megabytes on those of the packages: an upgrade with the same packages fetches no more than these.
FROM packages AS base
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/ramq ramq \
    && install -d -o ramq -g ramq /var/lib/ramq
ENV PATH=/opt/ramq/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RAMQ_DATA_DIR=/var/lib/ramq \
    HOME=/var/lib/ramq
COPY --from=wheel /wheel /opt/ramq/wheel
RUN pip install --no-deps --no-index --no-cache-dir /opt/ramq/wheel/*.whl
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
