# The image for `adaqat-hw build --env docker`: FINN, and what a Vivado mounted from the host needs.
# After docker/Dockerfile, from the repository root:
#   docker build -f docker/vivado.Dockerfile -t adaqat-hw-vivado:finn-plus-1.6.1 docker
# BASE is any image with Debian 12 and the FINN environment in /opt/adaqat/finn.
ARG BASE=adaqat-hw
FROM ${BASE}

# Checked before every build in a container, and below against what is really installed.
LABEL adaqat-hw.finn-plus="1.6.1" \
      org.opencontainers.image.title="adaqat-hw-vivado" \
      org.opencontainers.image.description="FINN, with the libraries that a mounted Vivado needs"

USER root
# Vivado brings its own compilers and Tcl; it wants these libraries and an English UTF-8 locale.
RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get update -q; \
    apt-get install -y -q --no-install-recommends \
        fontconfig libc6-dev libfreetype6 libncurses5 libtinfo5 libx11-6 libxext6 libxi6 \
        libxrender1 libxtst6 locales procps unzip; \
    rm -rf /var/lib/apt/lists/*; \
    sed -i 's/^# *\(en_US.UTF-8\)/\1/' /etc/locale.gen; \
    locale-gen
ENV LANG=en_US.UTF-8

# The build's folder is mounted at /build; nothing else is written.
RUN mkdir -p /build && chmod 1777 /build
USER adaqat
WORKDIR /build
RUN /opt/adaqat/finn/bin/python -c "import importlib.metadata as m; assert m.version('finn-plus') == '1.6.1'"

# The caller names the program; without one this says what is inside.
ENTRYPOINT []
CMD ["adaqat-hw", "env", "status"]
