package sink

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestPlainNamesStay(t *testing.T) {
	for _, name := range []string{"room-42", "a", "0", "team.lobby", "x_y", "recorder", "comma", "com10", "console",
		"3f2504e0-4f89-11d3-9a0c-0305e82c3301", strings.Repeat("n", maxName)} {
		if got := escapeName(name); got != name {
			t.Errorf("%q became %q", name, got)
		}
	}
}

// hostileNames are names that would do harm as they are. No two may meet in one file.
var hostileNames = []string{
	"", ".", "..", "...", "../../etc/passwd", "/etc/passwd", `..\..\x`, `C:\x`, "a/b", "a\\b", "a:b", "a\x00b", "a\nb", "\x1b[31m", " ", "a ", " a",
	"-rf", ".hidden", "trailing.", "con", "nul.txt", "com1", "lpt9.ogg", "aux", "prn", "CON", "recording.json", "Recording.json",
	"Bob", "BOB", "bOB", "é", "e\u0301", "ﬁ", "fi\u200d", "\u202egpj", "名前", "\xff\xfe", "%2e%2e", "{3f2504e0}", "_", "-", "*", "?", "~",
	strings.Repeat("n", maxName+1), strings.Repeat("n", maxName+2), strings.Repeat("é", 1<<19),
}

func TestHostileNamesAreHarmlessAndApart(t *testing.T) {
	seen := map[string]string{"bob": "bob", ManifestName: ManifestName}
	for _, name := range hostileNames {
		got := escapeName(name)
		checkEscaped(t, name, got)
		if got == name {
			t.Errorf("%q stayed", name)
		}
		if other, ok := seen[strings.ToLower(got)]; ok {
			t.Errorf("%.80q and %.80q are both %q", name, other, got)
		}
		seen[strings.ToLower(got)] = name
	}
}

func TestANameCannotPassForAnother(t *testing.T) {
	escaped := escapeName("Bob")
	if escapeName(escaped) == escaped {
		t.Errorf("a member called %q shares the files of Bob", escaped)
	}
}

func checkEscaped(t *testing.T, name, got string) {
	t.Helper()
	if !filepath.IsLocal(got) || filepath.Base(got) != got || len(got) > maxBefore || len(got) == 0 ||
		strings.Trim(got, ".-") != got || reservedName(got) || got == ManifestName {
		t.Errorf("%.80q became %q", name, got)
	}
	for i := range len(got) {
		if !plainByte(got[i]) {
			t.Errorf("%.80q became %q", name, got)
		}
	}
}

func FuzzEscapeName(f *testing.F) {
	for _, name := range hostileNames {
		if len(name) < 100 {
			f.Add(name, "bob")
		}
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := escapeName(a), escapeName(b)
		checkEscaped(t, a, x)
		if a != b && strings.EqualFold(x, y) {
			t.Errorf("%q and %q are both %q", a, b, x)
		}
	})
}
