# The image has one program on a base without a shell and a package manager. `scripts/test-image`
# builds and runs it. Both base images can be replaced or pinned by digest:
#
#     docker build --build-arg RUNTIME_IMAGE=gcr.io/distroless/cc-debian12@sha256:… .

ARG RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12

FROM ${RUST_IMAGE} AS build
WORKDIR /build
ENV CARGO_PROFILE_RELEASE_STRIP=symbols \
    CARGO_TERM_COLOR=never

# Builds only the dependencies, in a layer that a change of the code does not invalidate.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY crates/private-postgres/Cargo.toml crates/private-postgres/
RUN mkdir src crates/private-postgres/src \
    && echo 'fn main() {}' | tee src/main.rs build.rs \
    && touch src/lib.rs crates/private-postgres/src/lib.rs \
    && cargo build --release --locked --bin heist

COPY . .
# .git is not part of the context.
ARG REVISION=unknown
# Cargo compares modification times, and the copied sources may be older than the placeholders.
RUN touch build.rs src/lib.rs src/main.rs crates/private-postgres/src/lib.rs \
    && HEIST_REVISION="$REVISION" cargo build --release --locked --bin heist

FROM ${RUNTIME_IMAGE}
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="heist" \
    org.opencontainers.image.description="Players of a leaderboard rob each other: a gRPC service on PostgreSQL" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /build/target/release/heist /usr/local/bin/heist
ENV HEIST_LISTEN=0.0.0.0:50051 \
    HEIST_METRICS_LISTEN=0.0.0.0:9464
# The user nobody, by number, so that Kubernetes can verify that it is not root.
USER 65534:65534
EXPOSE 50051 9464
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/heist", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/heist"]
CMD ["serve"]
