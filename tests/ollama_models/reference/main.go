// Renders templates with Go's own text/template, for test_text_template.py to compare with:
//
//	go run tests/ollama_models/reference/main.go < cases.json > rendered.json
//
// Both are lists; a case has a template and its data, and what is written has the text too.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type renderedCase struct {
	Template string         `json:"template"`
	Data     map[string]any `json:"data"`
	Text     string         `json:"text"`
}

func main() {
	var cases []renderedCase
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	functions := template.FuncMap{"currentDate": func() string { return "2026-01-31" }}
	for i := range cases {
		var text strings.Builder
		parsed := template.Must(template.New("").Option("missingkey=zero").Funcs(functions).Parse(cases[i].Template))
		if err := parsed.Execute(&text, cases[i].Data); err != nil {
			panic(err)
		}
		cases[i].Text = text.String()
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(cases); err != nil {
		panic(err)
	}
}
