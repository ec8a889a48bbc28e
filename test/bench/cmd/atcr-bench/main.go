// Command atcr-bench measures the registry beside others; see package bench.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"atcr.io/operator/test/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "atcr-bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == "floor" {
		return bench.Floor(ctx, args[1])
	}
	flags := flag.NewFlagSet("atcr-bench", flag.ExitOnError)
	quick := flags.Bool("quick", false, "about a minute instead of six")
	soak := flags.Duration("soak", 0, "only the mixed load, for so long, with a PDS that fails now and then")
	only := flags.String("only", "", "sections, separated by commas: "+strings.Join(bench.Sections, ", "))
	dir := flags.String("dir", "", "folder for the servers' data (default: a temporary one)")
	noS3 := flags.Bool("no-s3", false, "without the hold on S3")
	ours := flags.Bool("ours", false, "only our own programs, for comparison with BENCH_BASE")
	into := flags.String("json", "", "file for the medians")
	_ = flags.Parse(args) // ends the process itself
	o := bench.Full()
	if *quick {
		o = bench.Quick()
	}
	o.Dir, o.Out, o.S3, o.Soak, o.Ours = *dir, os.Stdout, !*noS3, *soak, *ours
	o.Only = map[string]bool{}
	for name := range strings.SplitSeq(*only, ",") {
		if name != "" {
			o.Only[name] = true
		}
	}
	if *soak > 0 {
		o.Only = map[string]bool{"soak": true}
	}
	report, err := bench.Run(ctx, o)
	if err != nil || *into == "" {
		return err
	}
	raw, err := json.MarshalIndent(report.Values, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(*into, raw, 0o644)
}
