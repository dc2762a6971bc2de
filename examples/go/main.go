// A web server; with -check it asks a running one whether it is well.
package main

import (
	"embed"
	"flag"
	"html/template"
	"log"
	"net/http"
	"os"
	"runtime"
	"time"
)

//go:embed page.html
var files embed.FS

var page = template.Must(template.ParseFS(files, "page.html"))

func hello(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	if name == "" {
		name = "world"
	}
	if err := page.Execute(w, map[string]string{"Name": name, "Arch": runtime.GOARCH}); err != nil {
		log.Print(err)
	}
}

func check(address string) int {
	client := http.Client{Timeout: 3 * time.Second}
	answer, err := client.Get("http://" + address + "/health")
	if err != nil {
		return 1
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return 1
	}
	return 0
}

func main() {
	listen := flag.String("listen", ":8080", "the address to listen on")
	checking := flag.Bool("check", false, "ask the server on 127.0.0.1:8080 whether it is well")
	flag.Parse()
	if *checking {
		os.Exit(check("127.0.0.1:8080"))
	}
	http.HandleFunc("/", hello)
	http.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	log.Printf("ready on %s", *listen)
	server := http.Server{Addr: *listen, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}
