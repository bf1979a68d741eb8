# syntax=docker/dockerfile:1

# `npm run image:check` runs the steps of `build` and `dependencies` without a container engine: they use relative paths only.

FROM node:26-trixie-slim AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
# Local mode's ClickHouse: half a gigabyte that no build needs.
RUN npm pkg delete optionalDependencies.@chdb/lib-linux-x64-gnu
RUN npm ci --ignore-scripts
COPY nest-cli.json tsconfig.json tsconfig.build.json ./
COPY src src
RUN npx nest build
RUN find dist -type f \( -name '*.map' -o -name .tsbuildinfo \) -delete

FROM node:26-trixie-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Not --omit=optional: koffi's binary is an optional package, too. Local mode's ClickHouse goes by its name.
RUN npm pkg delete devDependencies optionalDependencies
RUN npm ci --ignore-scripts
RUN npm sbom --sbom-format cyclonedx > sbom.cdx.json
# What never runs: types, source maps, tests and pages of packages, koffi's C++ and its binary for musl. Licences stay.
RUN find node_modules -type f \( -name '*.ts' -o -name '*.mts' -o -name '*.cts' -o -name '*.map' \) -delete
RUN find node_modules -type d \( -name test -o -name tests -o -name 'benchmark*' -o -name 'example*' -o -name docs -o -name .github \) -prune -exec rm -r {} +
RUN find node_modules -type f -name '*.md' ! -iname '*licen[cs]e*' -delete
RUN rm -rf node_modules/koffi/vendor node_modules/koffi/doc node_modules/koffi/lib node_modules/@koromix/*/musl_*
RUN find node_modules/koffi/src -type f ! -name '*.js' ! -name '*.cjs' ! -name '*.json' -delete

FROM node:26-trixie-slim AS runtime
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libatomic1 libjemalloc2 tini \
 && mkdir -p /runtime/lib /runtime/data \
 && cp -L /usr/lib/*-linux-gnu/libatomic.so.1 /usr/lib/*-linux-gnu/libjemalloc.so.2 /runtime/lib/

# glibc, libstdc++ and the certificates; no shell, no package manager.
FROM gcr.io/distroless/cc-debian13:nonroot
COPY --from=runtime /runtime/lib/ /usr/lib/
COPY --from=runtime /usr/bin/tini-static /usr/local/bin/tini
COPY --from=runtime /usr/local/bin/node /usr/local/bin/node
COPY --from=runtime --chown=65532:65532 /runtime/data /data
WORKDIR /app
COPY LICENSE ./
COPY --from=dependencies /app/package.json /app/sbom.cdx.json ./
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /build/dist dist

ENV NODE_ENV=production
ENV LD_PRELOAD=/usr/lib/libjemalloc.so.2
ENV DISK_BUFFER_DIR=/data/disk-buffer
# The only place it writes to: --read-only holds.
VOLUME /data
USER 65532:65532
EXPOSE 4317 4318 9090 13133
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["/usr/local/bin/node", "-e", "fetch(`http://127.0.0.1:${process.env.HEALTHCHECK_PORT || 13133}/`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
# Other programs of the image: docker run IMAGE dist/cli/schema.js apply, … dist/cli/ring.js inspect /data/disk-buffer
ENTRYPOINT ["/usr/local/bin/tini", "--", "/usr/local/bin/node"]
CMD ["dist/main.js"]

ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Hive OTEL Trace Collector" \
      org.opencontainers.image.description="OTLP traces in, ClickHouse rows out: GraphQL Hive's trace collector." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.vendor="The Guild" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
