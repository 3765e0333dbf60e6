;; `ruby -e CODE`, around the ruby.wasm of npm.
;;
;; That one is made for JavaScript: it has no _start, but functions to be called, which take strings as the
;; component model's canonical ABI has them. This module calls them with the arguments that WASI gives.
;; wasm-merge makes one module of both, and of ruby-host.wat.
(module
  (import "ruby" "memory" (memory 1))
  (import "ruby" "_initialize" (func $initialize))
  (import "ruby" "cabi_realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
  (import "ruby" "ruby-init: func(args: list<string>) -> ()" (func $init (param i32 i32)))
  (import "ruby" "rb-eval-string-protect: func(str: string) -> tuple<handle<rb-abi-value>, s32>"
    (func $eval (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))

  (data $options "ruby\00-EUTF-8\00-e_=0\00")
  (data $flush "STDOUT.flush; STDERR.flush\00")

  (func $new (param $bytes i32) (result i32)
    (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (local.get $bytes)))

  (func $strlen (param $at i32) (result i32)
    (local $end i32)
    (local.set $end (local.get $at))
    (block $found
      (loop $next
        (br_if $found (i32.eqz (i32.load8_u (local.get $end))))
        (local.set $end (i32.add (local.get $end) (i32.const 1)))
        (br $next)))
    (i32.sub (local.get $end) (local.get $at)))

  ;; An interpreter whose own program is empty. Strings end with a zero byte, which counts.
  (func $start_ruby
    (local $text i32) (local $list i32)
    (local.set $text (call $new (i32.const 19)))
    (memory.init $options (local.get $text) (i32.const 0) (i32.const 19))
    (local.set $list (call $new (i32.const 24)))
    (i32.store (local.get $list) (local.get $text))
    (i32.store offset=4 (local.get $list) (i32.const 5))
    (i32.store offset=8 (local.get $list) (i32.add (local.get $text) (i32.const 5)))
    (i32.store offset=12 (local.get $list) (i32.const 8))
    (i32.store offset=16 (local.get $list) (i32.add (local.get $text) (i32.const 13)))
    (i32.store offset=20 (local.get $list) (i32.const 6))
    (call $init (local.get $list) (i32.const 3)))

  ;; The argument after `-e`; usage errors end the program with 2.
  (func $code (result i32)
    (local $sizes i32) (local $pointers i32)
    (local.set $sizes (call $new (i32.const 8)))
    (drop (call $args_sizes (local.get $sizes) (i32.add (local.get $sizes) (i32.const 4))))
    (if (i32.ne (i32.load (local.get $sizes)) (i32.const 3)) (then (call $exit (i32.const 2))))
    (local.set $pointers (call $new (i32.const 12)))
    (drop (call $args (local.get $pointers) (call $new (i32.load offset=4 (local.get $sizes)))))
    ;; "-e\0", of which the third byte may be anything in a longer option.
    (if (i32.ne (i32.and (i32.load (i32.load offset=4 (local.get $pointers))) (i32.const 0xffffff))
                (i32.const 0x00652d))
      (then (call $exit (i32.const 2))))
    (i32.load offset=8 (local.get $pointers)))

  (func (export "_start")
    (local $code i32) (local $flush i32) (local $failed i32)
    (call $initialize)
    (local.set $code (call $code))
    (call $start_ruby)
    (local.set $failed
      (i32.load offset=4 (call $eval (local.get $code) (call $strlen (local.get $code)))))
    (local.set $flush (call $new (i32.const 27)))
    (memory.init $flush (local.get $flush) (i32.const 0) (i32.const 27))
    (drop (call $eval (local.get $flush) (i32.const 26)))
    (if (local.get $failed) (then (call $exit (i32.const 1))))))
