# The image of every role: the packed package on Node, run by a user of its own.
#   docker build --tag gridroot:0.1.0 .
#   docker run --rm gridroot:0.1.0 --help
ARG NODE_VERSION=24.21.0

FROM node:${NODE_VERSION}-bookworm-slim AS build
WORKDIR /build
COPY package.json npm-shrinkwrap.json .npmrc ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json main.ts LICENSE README.md ./
COPY aggregator ./aggregator
COPY api ./api
COPY bin ./bin
COPY cli ./cli
COPY config ./config
COPY contracts ./contracts
COPY deploy/package ./deploy/package
COPY domain ./domain
COPY event-log ./event-log
COPY ingest ./ingest
COPY ledger ./ledger
COPY rollup-relayer ./rollup-relayer
COPY service ./service
COPY simulators ./simulators
COPY time-series ./time-series
# The optional packages carry Node and an embedded PostgreSQL: the image has the one and a deployment brings the other.
RUN mkdir packed \
 && npm pack --silent --pack-destination packed \
 && npm install --global --prefix /opt/gridroot --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund ./packed/*.tgz

FROM node:${NODE_VERSION}-bookworm-slim
# Nothing is installed at run time.
RUN rm -rf /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /opt/yarn* \
           /usr/local/bin/yarn /usr/local/bin/yarnpkg \
 && install --directory --owner=node --group=node /var/lib/gridroot /var/lib/gridroot-deployment
COPY --from=build /opt/gridroot /opt/gridroot
COPY deploy/image/health.mjs /opt/gridroot/health.mjs
ENV PATH=/opt/gridroot/bin:$PATH \
    NODE_ENV=production \
    HOME=/tmp \
    GRIDROOT_DATA_DIR=/var/lib/gridroot \
    GRIDROOT_PROBE_PORT=9464
USER node
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 CMD ["node", "/opt/gridroot/health.mjs"]
ENTRYPOINT ["gridroot"]
CMD ["--help"]
