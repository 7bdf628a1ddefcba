package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Where the schemas come from: what API servers and the Prometheus operator hold manifests against.
const (
	kubernetesModule = "k8s.io/kubernetes@v1.34.2"
	operatorModule   = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
)

// TestKubernetesManifestsAreValid has kubeconform hold them against the API's own schemas, in which unknown fields are refused.
func TestKubernetesManifestsAreValid(t *testing.T) {
	kubeconform := Tool(t, "kubeconform")
	args := []string{"-strict", "-summary", "-schema-location", writeKubernetesSchemas(t) + "/{{.ResourceKind}}-{{.ResourceAPIVersion}}.json"}
	out := run(t, "", kubeconform, append(args, deploy+"/kubernetes")...)
	if !strings.Contains(out, "5 resources found in 4 files - Valid: 5,") {
		t.Errorf("kubeconform: %s", out)
	}
	kinds := make(map[string]bool)
	for _, object := range kubernetesObjects(t) {
		kind := object["kind"].(string)
		kinds[kind] = true
		if kind == "ConfigMap" {
			checkConfigMap(t, object)
		}
		if spec, ok := object["spec"].(map[string]any); ok {
			spec["replica"] = 1
			misspelt, err := yaml.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(kubeconform, args...)
			cmd.Stdin = strings.NewReader(string(misspelt))
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "replica") {
				t.Errorf("a misspelt field of a %s is taken: %s", kind, out)
			}
		}
	}
	for _, kind := range []string{"StatefulSet", "Service", "ConfigMap", "Secret", "PodMonitor"} {
		if !kinds[kind] {
			t.Errorf("no %s", kind)
		}
	}
}

// kubernetesObjects returns all objects of the manifests.
func kubernetesObjects(t testing.TB) []map[string]any {
	t.Helper()
	var files []string
	for _, pattern := range []string{"/kubernetes/*.yaml", "/kubernetes/operator/*.yaml"} {
		found, err := filepath.Glob(deploy + pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	var objects []map[string]any
	for _, file := range files {
		decoder := yaml.NewDecoder(strings.NewReader(read(t, file)))
		for {
			var object map[string]any
			if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			objects = append(objects, object)
		}
	}
	return objects
}

// writeKubernetesSchemas returns a directory with a JSON schema for each kind, named like podmonitor-v1.json. The API's own kinds
// come from the OpenAPI document that Kubernetes is released with, PodMonitor from the operator's CRD.
func writeKubernetesSchemas(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, schema any) {
		text, err := json.Marshal(schema)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	var api struct {
		Definitions map[string]map[string]any `json:"definitions"`
	}
	if err := json.Unmarshal([]byte(read(t, goModule(t, kubernetesModule)+"/api/openapi-spec/swagger.json")), &api); err != nil {
		t.Fatal(err)
	}
	for _, definition := range api.Definitions {
		refuseUnknownFields(definition)
	}
	// These two are strings to OpenAPI, and numbers as well to an API server.
	api.Definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = map[string]any{"type": []string{"string", "integer"}}
	api.Definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = map[string]any{"type": []string{"string", "number"}}
	write("api.json", api)
	for kind, definition := range map[string]string{
		"statefulset": "apps.v1.StatefulSet", "service": "core.v1.Service", "configmap": "core.v1.ConfigMap", "secret": "core.v1.Secret",
	} {
		write(kind+"-v1.json", map[string]string{"$ref": "api.json#/definitions/io.k8s.api." + definition})
	}

	var crd struct {
		Spec struct {
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPI map[string]any `yaml:"openAPIV3Schema"`
				}
			}
		}
	}
	const path = "/example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"
	if err := yaml.Unmarshal([]byte(read(t, goModule(t, operatorModule)+path)), &crd); err != nil {
		t.Fatal(err)
	}
	for _, version := range crd.Spec.Versions {
		refuseUnknownFields(version.Schema.OpenAPI)
		write("podmonitor-"+version.Name+".json", version.Schema.OpenAPI)
	}
	return dir
}

// refuseUnknownFields closes every object whose fields are listed, as API servers do with --validate=strict.
func refuseUnknownFields(schema any) {
	switch schema := schema.(type) {
	case map[string]any:
		_, open := schema["additionalProperties"]
		if _, listed := schema["properties"].(map[string]any); listed && !open {
			schema["additionalProperties"] = false
		}
		for _, part := range schema {
			refuseUnknownFields(part)
		}
	case []any:
		for _, part := range schema {
			refuseUnknownFields(part)
		}
	}
}

// goModule returns the directory of a Go module, which is fetched if it is not at hand.
func goModule(t testing.TB, name string) string {
	t.Helper()
	out, err := exec.Command("go", "mod", "download", "-json", name).Output()
	var module struct{ Dir string }
	if err != nil || json.Unmarshal(out, &module) != nil {
		Missing(t, "the Go module "+name)
	}
	return module.Dir
}

// checkConfigMap has the recorder check the configuration in a ConfigMap.
func checkConfigMap(t *testing.T, object map[string]any) {
	t.Helper()
	key := filepath.Join(t.TempDir(), "api_key")
	if err := os.WriteFile(key, []byte("pk_live_x"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := object["data"].(map[string]any)["config.yaml"].(string)
	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(text, "/run/secrets/recorder/api_key", key)), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "", Binary(t), "check", "--config", config)
}
