// Runs expression programs from standard input, one a line: the program in hex, then the parameters' values. The first
// three parameters are i64, the fourth is *fp16, the fifth *fp64.
// Prints a result, "error" or "malformed" for each. tests/python/test_expr_cpp.py compares them with Python.

#include <cstdint>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "expr.h"

int main() {
  const uint8_t types[] = {KPK_I64, KPK_I64, KPK_I64, KPK_POINTER | KPK_FP16, KPK_POINTER | KPK_FP64};
  kpk_abi_overload overload = {};
  overload.types = reinterpret_cast<intptr_t>(types) - reinterpret_cast<intptr_t>(&overload.types);
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string hex;
    words >> hex;
    std::vector<uint8_t> code;
    for (size_t i = 0; i + 1 < hex.size(); i += 2) {
      code.push_back(static_cast<uint8_t>(std::stoul(hex.substr(i, 2), nullptr, 16)));
    }
    std::vector<kpk_arg> args;
    for (int64_t value; words >> value;) args.push_back({static_cast<uint64_t>(value), KPK_I64, 0, 0, 0});
    if (!kpk::is_program(code.data(), code.data() + code.size(), static_cast<uint32_t>(args.size()), 0)) {
      std::cout << "malformed\n";
      continue;
    }
    kpk::ExprError error;
    const int64_t result = kpk::evaluate(code.data(), {args.data(), &overload, nullptr}, &error);
    if (error == kpk::ExprError::kNone) {
      std::cout << result << '\n';
    } else {
      std::cout << "error\n";
    }
  }
}
