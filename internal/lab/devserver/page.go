package devserver

import (
	_ "embed"
	"html/template"
	"net/http"
)

//go:embed page.html
var pageSource string

var page = template.Must(template.New("page").Parse(pageSource))

// servePage serves the join page.
func (s *Server) servePage(w http.ResponseWriter, _ *http.Request) {
	src := s.opts.SDKURL
	if s.opts.SDKFile != "" {
		src = "/sdk.js"
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err := page.Execute(w, struct{ SDK string }{src}); err != nil {
		s.log.Debug("join page was not sent", "err", err)
	}
}

// serveSDK serves the local build of the SDK. The file is opened on each request, so that one installed later is found.
func (s *Server) serveSDK(w http.ResponseWriter, r *http.Request) {
	if s.opts.SDKFile == "" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	http.ServeFile(w, r, s.opts.SDKFile)
}
