// Package config turns environment variables and mounted files into values that the server can use as they are.
//
//   - names: every variable, its default and meaning, and the runtime file's schema (shared with the operator)
//   - env.go, config.go: environment to [Config], with errors that name the variable, the value and the remedy
//   - runtime.go: [Runtime], the hot-reloaded runtime file merged over the environment
//   - keys.go: the sealing key on disk; files: making and watching files; version: which release this is;
//     heap: how often garbage is collected
package config
