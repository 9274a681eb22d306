# An image for jobs that run one target each. AWS Batch and SageMaker give it the whole command
# line, `rvrun run_command ...`, so there is no entry point, not even the base's.
#
#     docker build --build-arg BASE=python:3.13-slim --build-arg EXTRAS=landcover -t rvrun .
ARG BASE=python:3.12-slim
FROM ${BASE}
ENTRYPOINT []

# make for `rvrun run local`; expat for the wheels of rasterio, as python:*-slim has none.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libexpat1 make \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

# Debian's own Python lets pip install in a venv only; what the base brings is still imported.
RUN python3 -m venv --system-site-packages /opt/rvrun
# Unbuffered, so that the log of a job that is killed has its last lines.
ENV PATH=/opt/rvrun/bin:$PATH PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1

# The dependencies first: a change of the source does not install them again.
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
