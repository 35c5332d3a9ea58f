# fnl in a container, from the constraints that are tested.
#   docker build -t fnl .
#   docker build -t fnl --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu .   # without CUDA's libraries
#   docker build -t fnl-cuda --build-arg BASE=pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime .
#   docker run --rm -v "$PWD/results:/results" fnl run --set run.results-dir=/results
# A base that brings PyTorch (with CUDA, say) keeps it: .ci/install never replaces one.
ARG BASE=python:3.11-slim
FROM ${BASE}

# another place where pip looks for packages
ARG PIP_EXTRA_INDEX_URL=
WORKDIR /fnl
COPY . .
RUN PYTHON=python3 VENV=/opt/fnl sh .ci/install && rm -rf /root/.cache
ENV PATH=/opt/fnl/bin:$PATH FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1

ENTRYPOINT ["fnl"]
CMD ["--help"]
