package sink

import _ "embed"

// ManifestSchema is the JSON Schema (draft 2020-12) of a Manifest, for those who read one without
// this package.
//
//go:embed recording.schema.json
var ManifestSchema []byte
