# An image for jobs that run one target each. AWS Batch and SageMaker pass the whole command line,
# `rvrun run_command ...`, so the image clears the entry point of its base.
#
#     docker build --build-arg BASE=python:3.13-slim --build-arg EXTRAS=landcover -t rvrun .
ARG BASE=python:3.12-slim
FROM ${BASE}
ENTRYPOINT []

# `rvrun run local` needs make. The rasterio wheels need expat, which python:*-slim lacks.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libexpat1 make \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

# Debian's Python only lets pip install into a venv. Packages of the base image stay importable.
RUN python3 -m venv --system-site-packages /opt/rvrun
# Unbuffered output, so that the log of a killed job includes its last lines.
ENV PATH=/opt/rvrun/bin:$PATH PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1

# Install the dependencies first, so that a source change does not reinstall them.
ARG EXTRAS=
WORKDIR /opt/rvrun/src
COPY pyproject.toml .
RUN python -c 'import sys, tomllib; project = tomllib.load(sys.stdin.buffer)["project"]; \
    extras = [project["optional-dependencies"][name] for name in sys.argv[1].split(",") if name]; \
    print(*sum(extras, project["dependencies"]), sep="\n")' "$EXTRAS" <pyproject.toml >/tmp/needed \
    && pip install -r /tmp/needed \
    && rm /tmp/needed
COPY . .
RUN pip install --no-deps . && rm -rf /opt/rvrun/src

WORKDIR /work
CMD ["rvrun", "--help"]
