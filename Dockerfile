# The command loc-keras in a container: docker build -t loc-keras .
#
#   docker run --rm -v "$PWD:/work" loc-keras train --data my_photos
#
# For GPUs, another image to begin from, with Python 3.11 to 3.13 and the CUDA that TensorFlow 2.21
# asks for, and `docker run --gpus all`:
#
#   docker build --build-arg BASE=IMAGE -t loc-keras:gpu .
#
# EXTRAS adds what optional parts need, such as [export,demo].
ARG BASE=python:3.11-slim
FROM ${BASE}
ARG EXTRAS=
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY requirements*.txt ./
COPY configs configs
COPY loc_keras loc_keras
RUN python -m pip install --no-cache-dir ".${EXTRAS}"
WORKDIR /work
ENTRYPOINT ["loc-keras"]
CMD ["--help"]
