package main

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestNamesAreEscaped(t *testing.T) {
	answer := httptest.NewRecorder()
	hello(answer, httptest.NewRequest("GET", "/?name=<b>", nil))
	if got := answer.Body.String(); !strings.Contains(got, "Hello, &lt;b&gt;") {
		t.Errorf("got %q", got)
	}
}
