package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// diskVariable names the folder to mount the disk on, in the process that a test runs in again.
const diskVariable = "ATCR_TEST_DISK"

// OnSmallDisk runs a test with a folder that is a file system of its own, of so many bytes. It is mounted in a namespace
// that ends with its process, so the test runs again in one of its own, alone. Without root that takes a system that lets
// users make namespaces.
func OnSmallDisk(t *testing.T, bytes int64, test func(t *testing.T, dir string)) {
	t.Helper()
	if dir := os.Getenv(diskVariable); dir != "" {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, fmt.Sprint("size=", bytes)); err != nil {
			t.Fatal("mounting a small disk: ", err)
		}
		test(t, dir)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-test.run=^" + regexp.QuoteMeta(t.Name()) + "$", "-test.v", "-test.count=1"}
	if end, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+time.Until(end).String())
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), diskVariable+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // it does not outlive a test that is killed
	runtime.LockOSThread()                      // Pdeathsig is sent when the thread that started the process ends
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if cmd.Process == nil {
		Missing(t, "a mount namespace", "run as root, or allow users to make namespaces; here the system said: "+err.Error())
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// Fill leaves no room on the disk that dir is on, and gives what makes room again.
func Fill(t testing.TB, dir string) (empty func()) {
	t.Helper()
	f, err := os.CreateTemp(dir, "filling")
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	for len(block) > 0 {
		if _, err = f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Error(err)
		}
	}
}
