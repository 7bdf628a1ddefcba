package signaling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

type tokenURL struct {
	raw  secret // there may be one in its user, path or query
	name string
	http *http.Client
}

// TokenURL returns a credential that asks rawURL for a token on every connect:
// GET, or POST where GET is not allowed, answered with 200 and {"token":"…"}.
// query is added to the address, but for names that are in it already.
// The address is https, or http for this very machine. A redirect is an error,
// because it would carry the address's own secrets elsewhere. client may be nil.
func TokenURL(rawURL string, query url.Values, client *http.Client) (Credential, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("token url: cannot be read; want something like https://example.com/token") // err quotes parts
	}
	if u.Hostname() == "" {
		return nil, errors.New("token url: no host")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return nil, fmt.Errorf("token url: scheme %.16q to %s; want https", u.Scheme, u.Host)
	}
	added := maps.Clone(query)
	maps.DeleteFunc(added, func(name string, _ []string) bool { return u.Query().Has(name) })
	u.RawQuery = strings.Trim(u.RawQuery+"&"+added.Encode(), "&")
	return &tokenURL{
		raw:  conceal(u.String()),
		name: "token url " + u.Scheme + "://" + u.Host,
		http: withoutRedirects(client),
	}, nil
}

func (t *tokenURL) Authorize(ctx context.Context) (param, value string, err error) {
	token, status, err := t.ask(ctx, http.MethodGet)
	if status == http.StatusMethodNotAllowed {
		token, _, err = t.ask(ctx, http.MethodPost)
	}
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", t.name, redact(err, t.raw()))
	}
	return paramToken, token, nil
}

func (t *tokenURL) ask(ctx context.Context, method string) (token string, status int, err error) {
	req, err := http.NewRequestWithContext(ctx, method, t.raw(), nil)
	if err != nil {
		return "", 0, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Cache-Control", "no-store")
	resp, err := t.http.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", resp.StatusCode, fmt.Errorf("answered %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 2*maxTokenLen))
	if err != nil {
		return "", 0, fmt.Errorf("read answer: %w", err)
	}
	token, err = parseTokenAnswer(body)
	return token, resp.StatusCode, err
}

// parseTokenAnswer reads what a token server says. Its errors quote nothing of it.
func parseTokenAnswer(body []byte) (token string, err error) {
	var answer struct {
		Token string `json:"token"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return "", errors.New(`the answer is not {"token": "…"}`)
	}
	if err := checkToken(answer.Token); err != nil {
		return "", err
	}
	return answer.Token, nil
}

func (t *tokenURL) Renewable() bool      { return true }
func (t *tokenURL) String() string       { return t.name }
func (t *tokenURL) GoString() string     { return t.name }
func (t *tokenURL) LogValue() slog.Value { return slog.StringValue(t.name) }

// withoutRedirects returns a copy of client (nil: the default one) that takes a
// redirect for the answer: following one would hand the address, and the
// credential in it, to another host in the Referer header.
func withoutRedirects(client *http.Client) *http.Client {
	c := http.Client{}
	if client != nil {
		c = *client
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}
