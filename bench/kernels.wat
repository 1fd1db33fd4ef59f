;; kernels.c for bench_kernels.py, so that it needs no compiler for WebAssembly. Made with clang 14 and wabt by
;;   clang --target=wasm32 -mbulk-memory -O2 -nostdlib -Wl,--no-entry,--strip-all kernels.c -o kernels.wasm
;;   wasm2wat kernels.wasm | sed 's/ *;; label.*//' | fmt -w 120
(module
  (type (;0;) (func (param i32) (result i32))) (type (;1;) (func (param i32) (result f64))) (func (;0;) (type 0)
  (param i32) (result i32)
    (local i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32
    i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) global.get 0 i32.const
    64 i32.sub local.set 1 block
      block
        local.get 0 br_if 0 (;@2;) i32.const 1779033703 local.set 2 br 1 (;@1;)
      end i32.const 1541459225 local.set 3 i32.const 528734635 local.set 4 i32.const -1694144372 local.set 5
      i32.const 1359893119 local.set 6 i32.const -1521486534 local.set 7 i32.const 1013904242 local.set 8 i32.const
      -1150833019 local.set 9 i32.const 1779033703 local.set 2 i32.const 0 local.set 10 loop
        local.get 10 i32.const 63 i32.and i32.const 1280 i32.add local.get 10 i32.store8 i32.const 0 local.set 11 loop
          local.get 1 local.get 11 i32.add local.get 11 i32.const 1280 i32.add i32.load local.tee 12 i32.const
          24 i32.shl local.get 12 i32.const 8 i32.shl i32.const 16711680 i32.and i32.or local.get 12 i32.const 8
          i32.shr_u i32.const 65280 i32.and local.get 12 i32.const 24 i32.shr_u i32.or i32.or i32.store local.get
          11 i32.const 4 i32.add local.tee 11 i32.const 64 i32.ne br_if 0 (;@3;)
        end i32.const 0 local.set 11 local.get 1 i32.load offset=60 local.set 13 local.get 1 i32.load offset=56
        local.set 14 local.get 1 i32.load offset=52 local.set 15 local.get 1 i32.load offset=48 local.set 16
        local.get 1 i32.load offset=44 local.set 17 local.get 1 i32.load offset=40 local.set 18 local.get 1 i32.load
        offset=36 local.set 19 local.get 1 i32.load offset=32 local.set 20 local.get 1 i32.load offset=28 local.set
        21 local.get 1 i32.load offset=24 local.set 22 local.get 1 i32.load offset=20 local.set 23 local.get 1
        i32.load offset=16 local.set 24 local.get 1 i32.load offset=12 local.set 25 local.get 1 i32.load offset=8
        local.set 26 local.get 1 i32.load offset=4 local.set 27 local.get 1 i32.load local.set 28 local.get
        2 local.set 12 local.get 9 local.set 29 local.get 8 local.set 30 local.get 7 local.set 31 local.get 6
        local.set 32 local.get 5 local.set 33 local.get 4 local.set 34 local.get 3 local.set 35 block
          loop
            local.get 30 local.get 29 local.get 12 i32.or i32.and local.get 29 local.get 12 i32.and i32.or local.get
            12 i32.const 30 i32.rotl local.get 12 i32.const 19 i32.rotl i32.xor local.get 12 i32.const 10 i32.rotl
            i32.xor i32.add local.get 32 i32.const 26 i32.rotl local.get 32 i32.const 21 i32.rotl i32.xor local.get
            32 i32.const 7 i32.rotl i32.xor local.get 28 i32.add local.get 35 i32.add local.get 34 local.get
            33 i32.xor local.get 32 i32.and local.get 34 i32.xor i32.add local.get 11 i32.const 1024 i32.add
            i32.load i32.add local.tee 35 i32.add local.tee 36 i32.const 30 i32.rotl local.get 36 i32.const 19
            i32.rotl i32.xor local.get 36 i32.const 10 i32.rotl i32.xor local.get 36 local.get 12 i32.or local.get
            29 i32.and local.get 36 local.get 12 i32.and i32.or i32.add local.get 34 local.get 27 i32.add local.get
            11 i32.const 1028 i32.add i32.load i32.add local.get 35 local.get 31 i32.add local.tee 34 local.get 33
            local.get 32 i32.xor i32.and local.get 33 i32.xor i32.add local.get 34 i32.const 26 i32.rotl local.get
            34 i32.const 21 i32.rotl i32.xor local.get 34 i32.const 7 i32.rotl i32.xor i32.add local.tee 35 i32.add
            local.tee 31 i32.const 30 i32.rotl local.get 31 i32.const 19 i32.rotl i32.xor local.get 31 i32.const
            10 i32.rotl i32.xor local.get 31 local.get 36 i32.or local.get 12 i32.and local.get 31 local.get 36
            i32.and i32.or i32.add local.get 33 local.get 26 i32.add local.get 11 i32.const 1032 i32.add i32.load
            i32.add local.get 35 local.get 30 i32.add local.tee 33 local.get 34 local.get 32 i32.xor i32.and
            local.get 32 i32.xor i32.add local.get 33 i32.const 26 i32.rotl local.get 33 i32.const 21 i32.rotl
            i32.xor local.get 33 i32.const 7 i32.rotl i32.xor i32.add local.tee 35 i32.add local.tee 30 i32.const 30
            i32.rotl local.get 30 i32.const 19 i32.rotl i32.xor local.get 30 i32.const 10 i32.rotl i32.xor local.get
            30 local.get 31 i32.or local.get 36 i32.and local.get 30 local.get 31 i32.and i32.or i32.add local.get
            32 local.get 25 i32.add local.get 11 i32.const 1036 i32.add i32.load i32.add local.get 35 local.get 29
            i32.add local.tee 35 local.get 33 local.get 34 i32.xor i32.and local.get 34 i32.xor i32.add local.get
            35 i32.const 26 i32.rotl local.get 35 i32.const 21 i32.rotl i32.xor local.get 35 i32.const 7 i32.rotl
            i32.xor i32.add local.tee 32 i32.add local.tee 29 i32.const 30 i32.rotl local.get 29 i32.const 19
            i32.rotl i32.xor local.get 29 i32.const 10 i32.rotl i32.xor local.get 29 local.get 30 i32.or local.get
            31 i32.and local.get 29 local.get 30 i32.and i32.or i32.add local.get 34 local.get 24 i32.add local.get
            11 i32.const 1040 i32.add i32.load i32.add local.get 32 local.get 12 i32.add local.tee 34 local.get 35
            local.get 33 i32.xor i32.and local.get 33 i32.xor i32.add local.get 34 i32.const 26 i32.rotl local.get
            34 i32.const 21 i32.rotl i32.xor local.get 34 i32.const 7 i32.rotl i32.xor i32.add local.tee 32 i32.add
            local.tee 12 i32.const 30 i32.rotl local.get 12 i32.const 19 i32.rotl i32.xor local.get 12 i32.const
            10 i32.rotl i32.xor local.get 12 local.get 29 i32.or local.get 30 i32.and local.get 12 local.get 29
            i32.and i32.or i32.add local.get 11 i32.const 1044 i32.add i32.load local.get 23 i32.add local.get
            33 i32.add local.get 32 local.get 36 i32.add local.tee 36 local.get 34 local.get 35 i32.xor i32.and
            local.get 35 i32.xor i32.add local.get 36 i32.const 26 i32.rotl local.get 36 i32.const 21 i32.rotl
            i32.xor local.get 36 i32.const 7 i32.rotl i32.xor i32.add local.tee 33 i32.add local.tee 32 i32.const 30
            i32.rotl local.get 32 i32.const 19 i32.rotl i32.xor local.get 32 i32.const 10 i32.rotl i32.xor local.get
            32 local.get 12 i32.or local.get 29 i32.and local.get 32 local.get 12 i32.and i32.or i32.add local.get
            11 i32.const 1048 i32.add i32.load local.get 22 i32.add local.get 35 i32.add local.get 33 local.get 31
            i32.add local.tee 33 local.get 36 local.get 34 i32.xor i32.and local.get 34 i32.xor i32.add local.get
            33 i32.const 26 i32.rotl local.get 33 i32.const 21 i32.rotl i32.xor local.get 33 i32.const 7 i32.rotl
            i32.xor i32.add local.tee 35 i32.add local.tee 31 i32.const 30 i32.rotl local.get 31 i32.const 19
            i32.rotl i32.xor local.get 31 i32.const 10 i32.rotl i32.xor local.get 31 local.get 32 i32.or local.get
            12 i32.and local.get 31 local.get 32 i32.and i32.or i32.add local.get 11 i32.const 1052 i32.add i32.load
            local.get 21 i32.add local.get 34 i32.add local.get 35 local.get 30 i32.add local.tee 34 local.get 33
            local.get 36 i32.xor i32.and local.get 36 i32.xor i32.add local.get 34 i32.const 26 i32.rotl local.get
            34 i32.const 21 i32.rotl i32.xor local.get 34 i32.const 7 i32.rotl i32.xor i32.add local.tee 35 i32.add
            local.tee 30 i32.const 30 i32.rotl local.get 30 i32.const 19 i32.rotl i32.xor local.get 30 i32.const 10
            i32.rotl i32.xor local.get 30 local.get 31 i32.or local.get 32 i32.and local.get 30 local.get 31 i32.and
            i32.or i32.add local.get 11 i32.const 1056 i32.add i32.load local.get 20 i32.add local.get 36 i32.add
            local.get 35 local.get 29 i32.add local.tee 36 local.get 34 local.get 33 i32.xor i32.and local.get 33
            i32.xor i32.add local.get 36 i32.const 26 i32.rotl local.get 36 i32.const 21 i32.rotl i32.xor local.get
            36 i32.const 7 i32.rotl i32.xor i32.add local.tee 35 i32.add local.tee 29 i32.const 30 i32.rotl local.get
            29 i32.const 19 i32.rotl i32.xor local.get 29 i32.const 10 i32.rotl i32.xor local.get 29 local.get 30
            i32.or local.get 31 i32.and local.get 29 local.get 30 i32.and i32.or i32.add local.get 11 i32.const 1060
            i32.add i32.load local.get 19 i32.add local.get 33 i32.add local.get 35 local.get 12 i32.add local.tee
            33 local.get 36 local.get 34 i32.xor i32.and local.get 34 i32.xor i32.add local.get 33 i32.const 26
            i32.rotl local.get 33 i32.const 21 i32.rotl i32.xor local.get 33 i32.const 7 i32.rotl i32.xor i32.add
            local.tee 35 i32.add local.tee 12 i32.const 30 i32.rotl local.get 12 i32.const 19 i32.rotl i32.xor
            local.get 12 i32.const 10 i32.rotl i32.xor local.get 12 local.get 29 i32.or local.get 30 i32.and local.get
            12 local.get 29 i32.and i32.or i32.add local.get 11 i32.const 1064 i32.add i32.load local.get 18 i32.add
            local.get 34 i32.add local.get 35 local.get 32 i32.add local.tee 34 local.get 33 local.get 36 i32.xor
            i32.and local.get 36 i32.xor i32.add local.get 34 i32.const 26 i32.rotl local.get 34 i32.const 21 i32.rotl
            i32.xor local.get 34 i32.const 7 i32.rotl i32.xor i32.add local.tee 35 i32.add local.tee 32 i32.const 30
            i32.rotl local.get 32 i32.const 19 i32.rotl i32.xor local.get 32 i32.const 10 i32.rotl i32.xor local.get
            32 local.get 12 i32.or local.get 29 i32.and local.get 32 local.get 12 i32.and i32.or i32.add local.get
            11 i32.const 1068 i32.add i32.load local.get 17 i32.add local.get 36 i32.add local.get 35 local.get 31
            i32.add local.tee 37 local.get 34 local.get 33 i32.xor i32.and local.get 33 i32.xor i32.add local.get
            37 i32.const 26 i32.rotl local.get 37 i32.const 21 i32.rotl i32.xor local.get 37 i32.const 7 i32.rotl
            i32.xor i32.add local.tee 31 i32.add local.tee 36 i32.const 30 i32.rotl local.get 36 i32.const 19
            i32.rotl i32.xor local.get 36 i32.const 10 i32.rotl i32.xor local.get 36 local.get 32 i32.or local.get
            12 i32.and local.get 36 local.get 32 i32.and i32.or i32.add local.get 11 i32.const 1072 i32.add i32.load
            local.get 16 i32.add local.get 33 i32.add local.get 31 local.get 30 i32.add local.tee 33 local.get 37
            local.get 34 i32.xor i32.and local.get 34 i32.xor i32.add local.get 33 i32.const 26 i32.rotl local.get
            33 i32.const 21 i32.rotl i32.xor local.get 33 i32.const 7 i32.rotl i32.xor i32.add local.tee 30 i32.add
            local.tee 31 i32.const 30 i32.rotl local.get 31 i32.const 19 i32.rotl i32.xor local.get 31 i32.const
            10 i32.rotl i32.xor local.get 31 local.get 36 i32.or local.get 32 i32.and local.get 31 local.get 36
            i32.and i32.or i32.add local.get 11 i32.const 1076 i32.add i32.load local.get 15 i32.add local.get
            34 i32.add local.get 30 local.get 29 i32.add local.tee 35 local.get 33 local.get 37 i32.xor i32.and
            local.get 37 i32.xor i32.add local.get 35 i32.const 26 i32.rotl local.get 35 i32.const 21 i32.rotl
            i32.xor local.get 35 i32.const 7 i32.rotl i32.xor i32.add local.tee 29 i32.add local.tee 30 i32.const 30
            i32.rotl local.get 30 i32.const 19 i32.rotl i32.xor local.get 30 i32.const 10 i32.rotl i32.xor local.get
            30 local.get 31 i32.or local.get 36 i32.and local.get 30 local.get 31 i32.and i32.or i32.add local.get
            11 i32.const 1080 i32.add i32.load local.get 14 i32.add local.get 37 i32.add local.get 29 local.get 12
            i32.add local.tee 34 local.get 35 local.get 33 i32.xor i32.and local.get 33 i32.xor i32.add local.get
            34 i32.const 26 i32.rotl local.get 34 i32.const 21 i32.rotl i32.xor local.get 34 i32.const 7 i32.rotl
            i32.xor i32.add local.tee 12 i32.add local.tee 29 i32.const 30 i32.rotl local.get 29 i32.const 19
            i32.rotl i32.xor local.get 29 i32.const 10 i32.rotl i32.xor local.get 29 local.get 30 i32.or local.get
            31 i32.and local.get 29 local.get 30 i32.and i32.or i32.add local.get 11 i32.const 1084 i32.add i32.load
            local.get 13 i32.add local.get 33 i32.add local.get 12 local.get 32 i32.add local.tee 33 local.get 34
            local.get 35 i32.xor i32.and local.get 35 i32.xor i32.add local.get 33 i32.const 26 i32.rotl local.get
            33 i32.const 21 i32.rotl i32.xor local.get 33 i32.const 7 i32.rotl i32.xor i32.add local.tee 32 i32.add
            local.set 12 local.get 32 local.get 36 i32.add local.set 32 local.get 11 i32.const 192 i32.eq br_if 1
            (;@3;) local.get 18 i32.const 14 i32.rotl local.set 38 local.get 18 i32.const 25 i32.rotl local.set
            39 local.get 18 i32.const 3 i32.shr_u local.set 40 local.get 16 i32.const 14 i32.rotl local.set
            41 local.get 16 i32.const 25 i32.rotl local.set 42 local.get 16 i32.const 3 i32.shr_u local.set
            43 local.get 14 i32.const 14 i32.rotl local.set 44 local.get 14 i32.const 25 i32.rotl local.set
            45 local.get 14 i32.const 3 i32.shr_u local.set 46 local.get 13 i32.const 25 i32.rotl local.get 13
            i32.const 14 i32.rotl i32.xor local.get 13 i32.const 3 i32.shr_u i32.xor local.get 14 i32.add local.get
            20 i32.const 25 i32.rotl local.get 20 i32.const 14 i32.rotl i32.xor local.get 20 i32.const 3 i32.shr_u
            i32.xor local.get 21 i32.add local.get 19 local.get 14 i32.const 15 i32.rotl local.get 14 i32.const
            13 i32.rotl i32.xor local.get 14 i32.const 10 i32.shr_u i32.xor i32.add local.get 28 i32.add local.get
            27 i32.const 25 i32.rotl local.get 27 i32.const 14 i32.rotl i32.xor local.get 27 i32.const 3 i32.shr_u
            i32.xor i32.add local.tee 28 i32.add local.get 23 local.get 14 i32.add local.get 22 i32.const 25 i32.rotl
            local.get 22 i32.const 14 i32.rotl i32.xor local.get 22 i32.const 3 i32.shr_u i32.xor i32.add local.get
            25 local.get 16 i32.add local.get 24 i32.const 25 i32.rotl local.get 24 i32.const 14 i32.rotl i32.xor
            local.get 24 i32.const 3 i32.shr_u i32.xor i32.add local.get 18 local.get 13 i32.const 15 i32.rotl
            local.get 13 i32.const 13 i32.rotl i32.xor local.get 13 i32.const 10 i32.shr_u i32.xor i32.add local.get
            27 i32.add local.get 26 i32.const 25 i32.rotl local.get 26 i32.const 14 i32.rotl i32.xor local.get
            26 i32.const 3 i32.shr_u i32.xor i32.add local.tee 36 i32.const 15 i32.rotl local.get 36 i32.const
            13 i32.rotl i32.xor local.get 36 i32.const 10 i32.shr_u i32.xor i32.add local.tee 37 i32.const 15
            i32.rotl local.get 37 i32.const 13 i32.rotl i32.xor local.get 37 i32.const 10 i32.shr_u i32.xor i32.add
            local.tee 27 i32.const 15 i32.rotl local.get 27 i32.const 13 i32.rotl i32.xor local.get 27 i32.const
            10 i32.shr_u i32.xor i32.add local.tee 47 i32.add local.get 15 i32.const 25 i32.rotl local.get 15
            i32.const 14 i32.rotl i32.xor local.get 15 i32.const 3 i32.shr_u i32.xor local.get 16 i32.add local.get
            27 i32.add local.get 17 i32.const 25 i32.rotl local.get 17 i32.const 14 i32.rotl i32.xor local.get
            17 i32.const 3 i32.shr_u i32.xor local.get 18 i32.add local.get 37 i32.add local.get 19 i32.const
            25 i32.rotl local.get 19 i32.const 14 i32.rotl i32.xor local.get 19 i32.const 3 i32.shr_u i32.xor
            local.get 20 i32.add local.get 36 i32.add local.get 22 local.get 13 i32.add local.get 21 i32.const 25
            i32.rotl local.get 21 i32.const 14 i32.rotl i32.xor local.get 21 i32.const 3 i32.shr_u i32.xor i32.add
            local.get 24 local.get 15 i32.add local.get 23 i32.const 25 i32.rotl local.get 23 i32.const 14 i32.rotl
            i32.xor local.get 23 i32.const 3 i32.shr_u i32.xor i32.add local.get 26 local.get 17 i32.add local.get
            25 i32.const 25 i32.rotl local.get 25 i32.const 14 i32.rotl i32.xor local.get 25 i32.const 3 i32.shr_u
            i32.xor i32.add local.get 28 i32.const 15 i32.rotl local.get 28 i32.const 13 i32.rotl i32.xor local.get
            28 i32.const 10 i32.shr_u i32.xor i32.add local.tee 26 i32.const 15 i32.rotl local.get 26 i32.const 13
            i32.rotl i32.xor local.get 26 i32.const 10 i32.shr_u i32.xor i32.add local.tee 24 i32.const 15 i32.rotl
            local.get 24 i32.const 13 i32.rotl i32.xor local.get 24 i32.const 10 i32.shr_u i32.xor i32.add local.tee
            22 i32.const 15 i32.rotl local.get 22 i32.const 13 i32.rotl i32.xor local.get 22 i32.const 10 i32.shr_u
            i32.xor i32.add local.tee 20 i32.const 15 i32.rotl local.get 20 i32.const 13 i32.rotl i32.xor local.get
            20 i32.const 10 i32.shr_u i32.xor i32.add local.tee 18 i32.const 15 i32.rotl local.get 18 i32.const 13
            i32.rotl i32.xor local.get 18 i32.const 10 i32.shr_u i32.xor i32.add local.tee 16 i32.const 15 i32.rotl
            local.get 16 i32.const 13 i32.rotl i32.xor local.get 16 i32.const 10 i32.shr_u i32.xor i32.add local.set
            14 local.get 11 i32.const 64 i32.add local.set 11 local.get 28 i32.const 25 i32.rotl local.get 28
            i32.const 14 i32.rotl i32.xor local.get 28 i32.const 3 i32.shr_u i32.xor local.get 13 i32.add local.get
            20 i32.add local.get 46 local.get 45 local.get 44 i32.xor i32.xor local.get 15 i32.add local.get 22
            i32.add local.get 43 local.get 42 local.get 41 i32.xor i32.xor local.get 17 i32.add local.get 24 i32.add
            local.get 40 local.get 39 local.get 38 i32.xor i32.xor local.get 19 i32.add local.get 26 i32.add local.get
            47 i32.const 15 i32.rotl local.get 47 i32.const 13 i32.rotl i32.xor local.get 47 i32.const 10 i32.shr_u
            i32.xor i32.add local.tee 19 i32.const 15 i32.rotl local.get 19 i32.const 13 i32.rotl i32.xor local.get
            19 i32.const 10 i32.shr_u i32.xor i32.add local.tee 17 i32.const 15 i32.rotl local.get 17 i32.const 13
            i32.rotl i32.xor local.get 17 i32.const 10 i32.shr_u i32.xor i32.add local.tee 15 i32.const 15 i32.rotl
            local.get 15 i32.const 13 i32.rotl i32.xor local.get 15 i32.const 10 i32.shr_u i32.xor i32.add local.set
            13 local.get 15 local.set 15 local.get 17 local.set 17 local.get 19 local.set 19 local.get 47 local.set
            21 local.get 27 local.set 23 local.get 37 local.set 25 local.get 36 local.set 27 br 0 (;@4;)
          end
        end local.get 35 local.get 3 i32.add local.set 3 local.get 34 local.get 4 i32.add local.set 4 local.get
        33 local.get 5 i32.add local.set 5 local.get 32 local.get 6 i32.add local.set 6 local.get 31 local.get 7
        i32.add local.set 7 local.get 30 local.get 8 i32.add local.set 8 local.get 29 local.get 9 i32.add local.set
        9 local.get 12 local.get 2 i32.add local.set 2 local.get 10 i32.const 1 i32.add local.tee 10 local.get 0
        i32.ne br_if 0 (;@2;)
      end
    end local.get 2)
  (func (;1;) (type 1) (param i32) (result f64)
    (local f64 f64 f64 f64 f64 f64 f64 f64 f64 f64 f64 f64 f64 f64 f64 i32 i32 i32 i32 f64 f64 f64 f64 i32 f64
    f64 f64 f64 f64 i32) i32.const 0 i64.const 0 i64.store offset=1360 i32.const 0 i64.const 4607182418800017408
    i64.store offset=1352 i32.const 0 i64.const 0 i64.store offset=1344 i32.const 0 i64.const 0 i64.store offset=1368
    i32.const 0 i64.const 4596373779694328218 i64.store offset=1616 i32.const 0 i64.const 0 i64.store offset=1608
    i32.const 0 i64.const 4581421828931458171 i64.store offset=1600 i32.const 0 i64.const 4585925428558828667
    i64.store offset=1592 i32.const 0 i64.const 4605380978949069210 i64.store offset=1584 i32.const 0 i64.const
    4615739258092021350 i64.store offset=1576 i32.const 0 i64.const 4617540697942969549 i64.store offset=1568
    i32.const 0 i64.const 4598175219545276416 i64.store offset=1560 i32.const 0 i64.const 0 i64.store offset=1552
    i32.const 0 i64.const 4581421828931458171 i64.store offset=1544 i32.const 0 i64.const 4584304132692975288
    i64.store offset=1536 i32.const 0 i64.const 4603579539098121012 i64.store offset=1528 i32.const 0 i64.const
    4614162998222441676 i64.store offset=1520 i32.const 0 i64.const 4615964438073389876 i64.store offset=1512
    i32.const 0 i64.const 4599676419421066581 i64.store offset=1504 i32.const 0 i64.const 0 i64.store offset=1496
    i32.const 0 i64.const 4581421828931458171 i64.store offset=1488 i32.const 0 i64.const 4581421828931458171
    i64.store offset=1480 i32.const 0 i64.const 4600877379321698714 i64.store offset=1472 i32.const 0 i64.const
    4612586738352862003 i64.store offset=1464 i32.const 0 i64.const 4613037098315599053 i64.store offset=1456
    i32.const 0 i64.const 4602678819172646912 i64.store offset=1448 i32.const 0 i64.const 0 i64.store offset=1440
    i32.const 0 i64.const 4581421828931458171 i64.store offset=1432 i32.const 0 i64.const 4576918229304087675
    i64.store offset=1424 i32.const 0 i64.const 4596373779694328218 i64.store offset=1416 i32.const 0 i64.const
    4610334938539176755 i64.store offset=1408 i32.const 0 i64.const 4608533498688228557 i64.store offset=1400
    i32.const 0 i64.const 4607182418800017408 i64.store offset=1392 i32.const 0 i64.const 0 i64.store offset=1384
    i32.const 0 i64.const 4581421828931458171 i64.store offset=1376 block
      local.get 0 br_if 0 (;@1;) f64.const 0x0p+0 (;=0;) return
    end f64.const 0x1p+0 (;=1;) local.set 1 f64.const 0x0p+0 (;=0;) local.set 2 f64.const 0x1.4cccccccccccdp+0
    (;=1.3;) local.set 3 f64.const 0x1.b333333333333p+0 (;=1.7;) local.set 4 f64.const 0x1.999999999999ap-3
    (;=0.2;) local.set 5 f64.const 0x1.4cccccccccccdp+1 (;=2.6;) local.set 6 f64.const 0x1.3333333333333p+1
    (;=2.4;) local.set 7 f64.const 0x1.999999999999ap-2 (;=0.4;) local.set 8 f64.const 0x1.f333333333334p+1
    (;=3.9;) local.set 9 f64.const 0x1.8ccccccccccccp+1 (;=3.1;) local.set 10 f64.const 0x1.3333333333334p-1
    (;=0.6;) local.set 11 f64.const 0x1.4cccccccccccdp+2 (;=5.2;) local.set 12 f64.const 0x1.e666666666666p+1
    (;=3.8;) local.set 13 f64.const 0x1.999999999999ap-1 (;=0.8;) local.set 14 f64.const 0x0p+0 (;=0;) local.set
    15 i32.const 0 local.set 16 loop
      i32.const 1344 local.set 17 block
        loop
          local.get 17 i32.const 56 i32.add local.tee 18 i32.const 1624 i32.ge_u local.tee 19 br_if 1 (;@2;)
          local.get 17 f64.load offset=48 local.set 20 local.get 17 f64.load offset=16 local.set 21 local.get 17
          f64.load offset=8 local.set 22 local.get 17 f64.load local.set 23 local.get 18 local.set 24 loop
            local.get 17 local.get 17 f64.load offset=24 local.get 24 i32.const 48 i32.add f64.load local.tee
            25 local.get 23 local.get 24 f64.load f64.sub local.tee 26 f64.mul f64.const 0x1.0624dd2f1a9fcp-10
            (;=0.001;) local.get 21 local.get 24 i32.const 16 i32.add f64.load f64.sub local.tee 27 local.get 27
            f64.mul local.get 26 local.get 26 f64.mul local.get 22 local.get 24 i32.const 8 i32.add f64.load f64.sub
            local.tee 28 local.get 28 f64.mul f64.add f64.add f64.const 0x1.47ae147ae147bp-7 (;=0.01;) f64.add
            local.tee 29 local.get 29 f64.sqrt f64.mul f64.div local.tee 29 f64.mul f64.sub f64.store offset=24
            local.get 17 local.get 17 f64.load offset=32 local.get 25 local.get 28 f64.mul local.get 29 f64.mul
            f64.sub f64.store offset=32 local.get 17 local.get 17 f64.load offset=40 local.get 25 local.get 27
            f64.mul local.get 29 f64.mul f64.sub f64.store offset=40 local.get 24 i32.const 24 i32.add local.tee 30
            local.get 26 local.get 20 f64.mul local.get 29 f64.mul local.get 30 f64.load f64.add f64.store local.get
            24 i32.const 32 i32.add local.tee 30 local.get 28 local.get 20 f64.mul local.get 29 f64.mul local.get
            30 f64.load f64.add f64.store local.get 24 i32.const 40 i32.add local.tee 30 local.get 27 local.get 20
            f64.mul local.get 29 f64.mul local.get 30 f64.load f64.add f64.store local.get 24 i32.const 56 i32.add
            local.tee 24 i32.const 1624 i32.lt_u br_if 0 (;@4;)
          end local.get 18 local.set 17 local.get 19 i32.eqz br_if 0 (;@3;)
        end
      end i32.const 0 i32.const 0 f64.load offset=1368 f64.const 0x1.0624dd2f1a9fcp-10 (;=0.001;) f64.mul local.get
      15 f64.add local.tee 15 f64.store offset=1344 i32.const 0 i32.const 0 f64.load offset=1376 f64.const
      0x1.0624dd2f1a9fcp-10 (;=0.001;) f64.mul local.get 1 f64.add local.tee 1 f64.store offset=1352 i32.const
      0 i32.const 0 f64.load offset=1384 f64.const 0x1.0624dd2f1a9fcp-10 (;=0.001;) f64.mul local.get 2 f64.add
      local.tee 2 f64.store offset=1360 i32.const 0 i32.const 0 f64.load offset=1424 f64.const 0x1.0624dd2f1a9fcp-10
      (;=0.001;) f64.mul local.get 3 f64.add local.tee 3 f64.store offset=1400 i32.const 0 i32.const 0 f64.load
      offset=1432 f64.const 0x1.0624dd2f1a9fcp-10 (;=0.001;) f64.mul local.get 4 f64.add local.tee 4 f64.store
      offset=1408 i32.const 0 i32.const 0 f64.load offset=1440 f64.const 0x1.0624dd2f1a9fcp-10 (;=0.001;) f64.mul
      local.get 5 f64.add local.tee 5 f64.store offset=1416 i32.const 0 i32.const 0 f64.load offset=1480 f64.const
      0x1.0624dd2f1a9fcp-10 (;=0.001;) f64.mul local.get 6 f64.add local.tee 6 f64.store offset=1456 i32.const
      0 i32.const 0 f64.load offset=1488 f64.const 0x1.0624dd2f1a9fcp-10 (;=0.001;) f64.mul local.get 7 f64.add
      local.tee 7 f64.store offset=1464 i32.const 0 i32.const 0 f64.load offset=1496 f64.const 0x1.0624dd2f1a9fcp-10
      (;=0.001;) f64.mul local.get 8 f64.add local.tee 8 f64.store offset=1472 i32.const 0 i32.const 0 f64.load
      offset=1536 f64.const 0x1.0624dd2f1a9fcp-10 (;=0.001;) f64.mul local.get 9 f64.add local.tee 9 f64.store
      offset=1512 i32.const 0 i32.const 0 f64.load offset=1544 f64.const 0x1.0624dd2f1a9fcp-10 (;=0.001;) f64.mul
      local.get 10 f64.add local.tee 10 f64.store offset=1520 i32.const 0 i32.const 0 f64.load offset=1552 f64.const
      0x1.0624dd2f1a9fcp-10 (;=0.001;) f64.mul local.get 11 f64.add local.tee 11 f64.store offset=1528 i32.const
      0 i32.const 0 f64.load offset=1592 f64.const 0x1.0624dd2f1a9fcp-10 (;=0.001;) f64.mul local.get 12 f64.add
      local.tee 12 f64.store offset=1568 i32.const 0 i32.const 0 f64.load offset=1600 f64.const 0x1.0624dd2f1a9fcp-10
      (;=0.001;) f64.mul local.get 13 f64.add local.tee 13 f64.store offset=1576 i32.const 0 i32.const 0 f64.load
      offset=1608 f64.const 0x1.0624dd2f1a9fcp-10 (;=0.001;) f64.mul local.get 14 f64.add local.tee 14 f64.store
      offset=1584 local.get 16 i32.const 1 i32.add local.tee 16 local.get 0 i32.ne br_if 0 (;@1;)
    end local.get 15)
  (func (;2;) (type 0) (param i32) (result i32)
    (local i32 i32) block
      block
        local.get 0 br_if 0 (;@2;) i32.const 0 local.set 1 br 1 (;@1;)
      end i32.const 0 local.set 2 i32.const 0 local.set 1 loop
        local.get 2 i32.const 1 i32.and i32.const 20 i32.or call 3 local.get 1 i32.add local.set 1 local.get 0
        local.get 2 i32.const 1 i32.add local.tee 2 i32.ne br_if 0 (;@2;)
      end
    end local.get 1)
  (func (;3;) (type 0) (param i32) (result i32)
    (local i32) i32.const 0 local.set 1 block
      local.get 0 i32.const 2 i32.lt_u br_if 0 (;@1;) i32.const 0 local.set 1 loop
        local.get 0 i32.const -1 i32.add call 3 local.get 1 i32.add local.set 1 local.get 0 i32.const -2 i32.add
        local.tee 0 i32.const 1 i32.gt_u br_if 0 (;@2;)
      end
    end local.get 0 local.get 1 i32.add)
  (func (;4;) (type 0) (param i32) (result i32)
    (local i32 i32 i32 i32 i32) block
      local.get 0 br_if 0 (;@1;) i32.const 0 return
    end i32.const 0 local.set 1 i32.const 0 local.set 2 loop (result i32)
      i32.const 1632 i32.const 0 i32.const 65536 memory.fill i32.const 2 local.set 3 i32.const 0 local.set 4 loop
      (result i32)
        local.get 4 i32.const 255 i32.and local.tee 4 i32.eqz local.set 5 block
          local.get 4 br_if 0 (;@3;) local.get 3 i32.const 32767 i32.gt_u br_if 0 (;@3;) local.get 3 i32.const 1
          i32.shl local.set 4 loop
            local.get 4 i32.const 1632 i32.add i32.const 1 i32.store8 local.get 4 local.get 3 i32.add local.tee
            4 i32.const 65536 i32.lt_u br_if 0 (;@4;)
          end
        end local.get 2 local.get 5 i32.add local.set 2 block
          local.get 3 i32.const 1 i32.add local.tee 3 i32.const 65536 i32.ne br_if 0 (;@3;) local.get 1 i32.const
          1 i32.add local.tee 1 local.get 0 i32.ne br_if 2 (;@1;) local.get 2 return
        end local.get 3 i32.const 1632 i32.add i32.load8_u local.set 4 br 0 (;@2;)
      end
    end)
  (table (;0;) 1 1 funcref) (memory (;0;) 3) (global (;0;) (mut i32) (i32.const 132704))
  (export "memory" (memory 0)) (export "sha256" (func 0)) (export "nbody" (func 1))
  (export "fib" (func 2)) (export "sieve" (func 4)) (data (;0;) (i32.const 1024)
  "\98/\8aB\91D7q\cf\fb\c0\b5\a5\db\b5\e9[\c2V9\f1\11\f1Y\a4\82?\92\d5^\1c\ab\98\aa\07\d8\01[\83\12\be\851$\c3}\0cUt]\ber\fe\b1\de\80\a7\06\dc\9bt\f1\9b\c1\c1i\9b\e4\86G\be\ef\c6\9d\c1\0f\cc\a1\0c$o,\e9-\aa\84tJ\dc\a9\b0\5c\da\88\f9vRQ>\98m\c61\a8\c8'\03\b0\c7\7fY\bf\f3\0b\e0\c6G\91\a7\d5Qc\ca\06g))\14\85\0a\b7'8!\1b.\fcm,M\13\0d8STs\0ae\bb\0ajv.\c9\c2\81\85,r\92\a1\e8\bf\a2Kf\1a\a8p\8bK\c2\a3Ql\c7\19\e8\92\d1$\06\99\d6\855\0e\f4p\a0j\10\16\c1\a4\19\08l7\1eLwH'\b5\bc\b04\b3\0c\1c9J\aa\d8NO\ca\9c[\f3o.h\ee\82\8ftoc\a5x\14x\c8\84\08\02\c7\8c\fa\ff\be\90\eblP\a4\f7\a3\f9\be\f2xq\c6"))
