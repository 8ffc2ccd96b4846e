package interop

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A transcript is a session of etcdctl: commands, and what they printed. The files in testdata were recorded from etcd
// (UPDATE=1 records again, from etcd, and a human reads the difference); both servers must say exactly that.
//
//	# why this session is here
//	$ put key "a value"         a command of etcdctl
//	< mod("key") > "0"          a line that it reads
//	OK                          a line that it prints
//	! Error: etcdserver: ...    a line that it prints to standard error
//	= 1                         its exit code, if not zero
//
// Ids of leases, members and clusters are random or depend on ports: each is replaced by ID1, ID2, ... in order of
// appearance, and a command may use {ID1}.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	check(t, err)
	if len(files) == 0 {
		t.Fatal("there are no transcripts")
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			if os.Getenv("UPDATE") != "" {
				t.Parallel()
				text := play(t, start(t, "etcd", t.TempDir()), file)
				check(t, os.WriteFile(file, []byte(text), 0o644))
				return
			}
			both(t, func(t *testing.T, s *server) {
				want, err := os.ReadFile(file)
				check(t, err)
				if got := play(t, s, file); got != string(want) {
					t.Fatal(firstDifference(got, string(want)))
				}
			})
		})
	}
}

// play runs the commands of a transcript and writes the transcript that it makes.
func play(t *testing.T, s *server, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	check(t, err)
	var written strings.Builder
	ids := ids{}
	steps := strings.Split(string(text), "\n")
	for i := 0; i < len(steps); i++ {
		line := steps[i]
		if strings.HasPrefix(line, "#") {
			fmt.Fprintln(&written, line)
		}
		command, is := strings.CutPrefix(line, "$ ")
		if !is {
			continue // what the command printed last time
		}
		fmt.Fprintln(&written, line)
		var stdin strings.Builder
		for ; i+1 < len(steps) && strings.HasPrefix(steps[i+1], "<"); i++ {
			fmt.Fprintln(&written, steps[i+1])
			fmt.Fprintln(&stdin, strings.TrimPrefix(strings.TrimPrefix(steps[i+1], "<"), " "))
		}
		r := s.etcdctl(t, stdin.String(), words(t, ids.put(command))...)
		for _, line := range lines(r.stdout) {
			fmt.Fprintln(&written, ids.replace(s.mask(line)))
		}
		for _, line := range lines(r.stderr) {
			// The client's own log: it names addresses in memory and the time.
			if !strings.HasPrefix(line, "{") {
				fmt.Fprintln(&written, "! "+ids.replace(s.mask(line)))
			}
		}
		if r.code != 0 {
			fmt.Fprintf(&written, "= %d\n", r.code)
		}
	}
	return written.String()
}

// words splits a command at spaces, except between double quotes, where Go's escapes hold.
func words(t *testing.T, command string) []string {
	t.Helper()
	var found []string
	for rest := strings.TrimSpace(command); rest != ""; rest = strings.TrimSpace(rest) {
		if quoted, err := strconv.QuotedPrefix(rest); err == nil {
			word, err := strconv.Unquote(quoted)
			check(t, err)
			found, rest = append(found, word), rest[len(quoted):]
			continue
		}
		word, after, _ := strings.Cut(rest, " ")
		found, rest = append(found, word), after
	}
	return found
}

func lines(text string) []string {
	var found []string
	for scanner := bufio.NewScanner(strings.NewReader(text)); scanner.Scan(); {
		found = append(found, scanner.Text())
	}
	return found
}

// masks are parts of the output that differ from run to run, and what stands for them. The term counts elections,
// which etcd holds one of before it serves, and Cairn may not.
var masks = []struct {
	what *regexp.Regexp
	mask string
}{
	{regexp.MustCompile(`("raft_term":|"RaftTerm" : )\d+`), "${1}TERM"},
	{regexp.MustCompile(`took = [0-9.]+[µnm]?s`), "took = TIME"},
	{regexp.MustCompile(`\. took [0-9.]+[µnm]?s`), ". took TIME"},
	{regexp.MustCompile(`"took":"[0-9.]+[µnm]?s"`), `"took":"TIME"`},
	// A table is as wide as its widest id.
	{regexp.MustCompile(` {2,}`), " "},
	{regexp.MustCompile(`─+`), "─"},
}

// mask hides what differs from run to run.
func (s *server) mask(line string) string {
	line = strings.ReplaceAll(line, s.endpoint, "CLIENT")
	line = strings.ReplaceAll(line, s.peer, "PEER")
	for _, mask := range masks {
		line = mask.what.ReplaceAllString(line, mask.mask)
	}
	return line
}

// ids are the random ids of a session in order of appearance, in hex.
type ids []string

// id is what an id looks like: decimal, or hex with at most four leading zeros left out.
var id = regexp.MustCompile(`\b([0-9]{17,20}|[0-9a-f]{12,16})\b`)

func (known *ids) replace(line string) string {
	return id.ReplaceAllStringFunc(line, func(text string) string {
		hex := strings.TrimLeft(text, "0")
		if number, err := strconv.ParseUint(text, 10, 64); err == nil {
			// All digits: decimal if it is too long for hex, or if it says an id that is known.
			decimal := strconv.FormatUint(number, 16)
			if len(text) > 16 || slices.Contains(*known, decimal) {
				hex = decimal
			}
		}
		if !slices.Contains(*known, hex) {
			*known = append(*known, hex)
		}
		return fmt.Sprintf("ID%d", slices.Index(*known, hex)+1)
	})
}

// put replaces {ID1} by the id itself.
func (known ids) put(command string) string {
	for i, hex := range known {
		command = strings.ReplaceAll(command, fmt.Sprintf("{ID%d}", i+1), hex)
	}
	return command
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	command := ""
	for i := 0; i < min(len(g), len(w)); i++ {
		if strings.HasPrefix(w[i], "$ ") {
			command = w[i]
		}
		if g[i] != w[i] {
			return fmt.Sprintf("line %d, after %s\n got %s\nwant %s", i+1, command, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines instead of %d, the first part is equal", len(g), len(w))
}
