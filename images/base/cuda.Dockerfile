# stoic-base:VERSION-cuda: the same with CUDA's libtorch. A pod of it runs on any host with NVIDIA's container runtime,
# on the CPU where there is no GPU. `make images CUDA=1` builds it; some 3 GB of wheels are fetched by name.
ARG DEBIAN=debian:bookworm-slim
FROM ${DEBIAN} AS wheels
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*
# Where the index is not the public one: pip's own configuration, as a file of the context.
COPY pip.conf /etc/pip.conf
COPY certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt
RUN pip install --no-cache-dir --break-system-packages --target /wheels --no-compile torch==2.11.0 && \
    mkdir -p /opt/stoic/lib && \
    cp -P /wheels/torch/lib/*.so* /opt/stoic/lib/ && \
    find /wheels/nvidia -name '*.so*' -path '*/lib/*' -exec cp -P {} /opt/stoic/lib/ \; && \
    rm -f /opt/stoic/lib/libtorch_python.so

FROM ${DEBIAN}
COPY --from=wheels /opt/stoic/lib/ /opt/stoic/lib/
ENV LD_LIBRARY_PATH=/opt/stoic/lib \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967295:glibc.malloc.trim_threshold=4294967295:glibc.malloc.arena_max=1 \
    GOMP_SPINCOUNT=20000 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PORT=8080
EXPOSE 8080
USER 65532:65532
