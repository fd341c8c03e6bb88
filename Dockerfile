# dcs and nothing else: make build && docker build -t dcs .
# docs/operations.md says how to run it.

# An empty directory, which scratch has no command to make.
FROM scratch AS empty
WORKDIR /empty

FROM scratch
LABEL org.opencontainers.image.title="dcs" \
      org.opencontainers.image.description="A Docker registry that forgets" \
      org.opencontainers.image.source="https://github.com/jc-lab/docker-cache-server" \
      org.opencontainers.image.documentation="https://github.com/jc-lab/docker-cache-server/blob/main/docs/operations.md" \
      org.opencontainers.image.licenses="Apache-2.0"
# A new volume takes its owner from here. When no server runs, dcs inspect and dcs gc --dry-run make an index of their
# own in /tmp, and remove it when they end.
COPY --from=empty --chown=65532:65532 /empty /var/cache/docker-cache-server
COPY --from=empty --chown=65532:65532 /empty /tmp
COPY bin/dcs /dcs
# A number, since there is no /etc/passwd, and so that Kubernetes can tell that it is not root.
USER 65532:65532
VOLUME /var/cache/docker-cache-server
EXPOSE 5000
ENTRYPOINT ["/dcs"]
CMD ["serve"]
