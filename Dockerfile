# docker build -t sessile . && docker run -p 127.0.0.1:8080:8080 -v sessile:/data sessile
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
ENV SESSILE__STORAGE__DATA=/data
EXPOSE 8080
STOPSIGNAL SIGTERM
# Without credentials the server accepts on loopback only: run it with --network host, or beside its proxy.
ENTRYPOINT ["/sessile", "serve"]
