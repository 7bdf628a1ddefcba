FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY internal internal
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /out/recorder ./cmd/recorder \
 && mkdir /out/recordings

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/recorder /recorder
# Owned by the image's user (65532), so that a fresh volume is writable.
COPY --from=build --chown=65532:65532 /out/recordings /recordings
ENV RECORDER_RECORDINGS_DIR=/recordings
VOLUME /recordings
EXPOSE 9464
USER 65532:65532
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
  CMD ["/recorder", "healthcheck", "--config", "/etc/recorder/config.yaml"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/recorder"]
CMD ["run", "--config", "/etc/recorder/config.yaml"]
