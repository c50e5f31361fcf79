# sortednet in a container, for a CPU or for CUDA: docs/how-to/budgets-in-ci.md shows both.
#
#   BASE     an image of Debian or Ubuntu; Python 3.11 or newer is installed if it has none
#   TORCH    the package index of torch's builds: .../whl/cpu, or .../whl/cu128 for CUDA, which
#            brings CUDA's libraries along; the host needs the driver and NVIDIA's container toolkit
#   EXTRAS   extras of the package, such as [onnx,timm]
ARG BASE=python:3.12-slim
FROM ${BASE}

ARG TORCH=https://download.pytorch.org/whl/cpu
ARG EXTRAS=

SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# hadolint ignore=DL3008
RUN if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then \
        apt-get update; \
        apt-get install --yes --no-install-recommends python3 python3-venv; \
        rm -rf /var/lib/apt/lists/*; \
    fi; \
    python3 -m venv /opt/sortednet
ENV PATH=/opt/sortednet/bin:$PATH

# torch first: a change of the package does not download it again.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir torch torchvision --index-url "${TORCH}"
COPY pyproject.toml README.md /src/
COPY presets /src/presets
COPY sortednet_cli /src/sortednet_cli
RUN pip install --no-cache-dir "/src${EXTRAS}"

ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    HOME=/home/sortednet
RUN install --directory --mode=1777 "$HOME" /work
WORKDIR /work
USER 1000:1000
ENTRYPOINT ["sortednet"]
CMD ["--help"]
