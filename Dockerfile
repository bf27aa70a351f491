# docker build -t sessile . && docker run --network host -v sessile:/data sessile
# Without credentials the server accepts on loopback only, so `-p` reaches nothing: see docs/operations.md.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/sessile /sessile && mkdir /empty

# glibc and nothing else: no shell, user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="sessile" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /sessile /sessile
COPY --from=build --chown=65532:65532 /empty /data
USER nonroot
VOLUME /data
# `container` makes the server say who can reach it.
ENV SESSILE__STORAGE__DATA=/data container=oci
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/sessile", "health"]
ENTRYPOINT ["/sessile"]
CMD ["serve"]
