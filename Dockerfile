# The image of the node plugin. Two stages: `build` has what is needed to make the wheel and its dependencies, the
# second has CPython, the virtual environment and nothing else: no pip, no compiler, no demo, no tests.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /source
COPY hack/constraints.txt hack/constraints.txt
# All dependencies come as wheels for amd64 and arm64; --only-binary makes a missing one an error instead of a
# compiler run.
COPY pyproject.toml README.md LICENSE ./
COPY driver driver
COPY deploy deploy
RUN python -m venv --without-pip /venv \
 && python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels -c hack/constraints.txt . \
 && python -m pip --python /venv install --no-cache-dir --no-compile --only-binary :all: -c hack/constraints.txt \
      /wheels/accel_dra-*.whl \
 && /venv/bin/python -m compileall -q -j 0 /venv/lib

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="accel-dra" \
      org.opencontainers.image.description="DRA resource driver: one vocabulary for accelerators on Kubernetes" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# Nothing is installed at run time.
RUN python -m pip uninstall --yes --quiet pip && rm -rf /root/.cache
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# `accel-dra inventory`, `doctor` and every other use need no root. The node plugin does, because the kubelet's folders
# belong to root: the DaemonSet says so itself (runAsUser: 0), with its reasons.
USER 65532:65532
ENTRYPOINT ["accel-dra"]
CMD ["--help"]
