// Approximate instructions and the mathematical functions of CUDA within the errors that NVIDIA
// documents: the PTX ISA for instructions, appendix "Mathematical functions" of the programming
// guide for the rest.

#include <cmath>
#include <string>

#include "check.cuh"

namespace {

using namespace softgpu_test;

struct Bound {
  double absolute;  // |error| may be absolute + relative * |exact| + ulps * unit in the last place
  double relative;
  double ulps;  // as NVIDIA counts them: from the correctly rounded result
};

struct Function {
  const char* name;
  double (*exact)(double x, double y);
  double low, high;  // of x; y is in [0.5, 4]
  Bound bound;
};

__device__ float ex2(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
__device__ float lg2(float x) {
  float r;
  asm("lg2.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
__device__ float rcp(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
__device__ float rsqrt_approx(float x) {
  float r;
  asm("rsqrt.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
__device__ float sqrt_approx(float x) {
  float r;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
__device__ float tanh_approx(float x) {
  float r;
  asm("tanh.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
__device__ float div_full(float x, float y) {
  float r;
  asm("div.full.f32 %0, %1, %2;" : "=f"(r) : "f"(x), "f"(y));
  return r;
}

// name, expression of floats x and y, exact value, range of x, bound
#define FUNCTIONS(X)                                                                   \
  X("ex2.approx", ex2(x), std::exp2(x), -20, 20, {0, 0x1p-22, 0})                      \
  X("lg2.approx", lg2(x), std::log2(x), 0.01, 1000, {0x1p-22, 0, 2})                   \
  X("rcp.approx", rcp(x), 1 / x, 0.001, 1000, {0, 0, 1})                               \
  X("rsqrt.approx", rsqrt_approx(x), 1 / std::sqrt(x), 0.001, 1000, {0, 0x1.6p-23, 0}) \
  X("sqrt.approx", sqrt_approx(x), std::sqrt(x), 0.001, 1000, {0, 0x1p-22, 0})         \
  X("sin.approx", __sinf(x), std::sin(x), -3.14, 3.14, {0x1p-20, 0, 0})                \
  X("cos.approx", __cosf(x), std::cos(x), -3.14, 3.14, {0x1p-20, 0, 0})                \
  X("tanh.approx", tanh_approx(x), std::tanh(x), -6, 6, {0, 0x1p-10, 0})               \
  X("div.full", div_full(x, y), x / y, -1000, 1000, {0, 0, 2})                         \
  X("div.approx", __fdividef(x, y), x / y, -1000, 1000, {0, 0, 2})                     \
  X("expf", expf(x), std::exp(x), -80, 80, {0, 0, 2})                                  \
  X("exp2f", exp2f(x), std::exp2(x), -120, 120, {0, 0, 2})                             \
  X("logf", logf(x), std::log(x), 0.0001, 10000, {0, 0, 1})                            \
  X("log2f", log2f(x), std::log2(x), 0.0001, 10000, {0, 0, 1})                         \
  X("log1pf", log1pf(x), std::log1p(x), -0.9, 10, {0, 0, 1})                           \
  X("expm1f", expm1f(x), std::expm1(x), -5, 5, {0, 0, 1})                              \
  X("sinf", sinf(x), std::sin(x), -1000, 1000, {0, 0, 2})                              \
  X("cosf", cosf(x), std::cos(x), -1000, 1000, {0, 0, 2})                              \
  X("sinf of large arguments", sinf(x), std::sin(x), 200000, 4000000, {0, 0, 2})       \
  X("tanhf", tanhf(x), std::tanh(x), -6, 6, {0, 0, 2})                                 \
  X("erff", erff(x), std::erf(x), -3, 3, {0, 0, 2})                                    \
  X("powf", powf(x, y), std::pow(x, y), 0.01, 100, {0, 0, 4})                          \
  X("rsqrtf", rsqrtf(x), 1 / std::sqrt(x), 0.001, 1000, {0, 0, 2})                     \
  X("sqrtf", sqrtf(x), std::sqrt(x), 0.001, 1000, {0, 0, 0})                           \
  X("division", x / y, x / y, -1000, 1000, {0, 0, 0})                                  \
  X("fmodf", fmodf(x, y), std::fmod(x, y), -100, 100, {0, 0, 0})                       \
  X("sigmoid", 1.0F / (1.0F + __expf(-x)), 1 / (1 + std::exp(-x)), -10, 10, {0, 0x1p-20, 0})

__global__ void evaluate(const float* inputs, float* out, int count) {
  const int i = static_cast<int>(threadIdx.x + blockIdx.x * blockDim.x);
  if (i >= count) return;
  int row = 0;
#define X(name, expression, ...)                                        \
  {                                                                     \
    const float x = inputs[2 * (row * count + i)];                      \
    [[maybe_unused]] const float y = inputs[2 * (row * count + i) + 1]; \
    out[row * count + i] = expression;                                  \
    ++row;                                                              \
  }
  FUNCTIONS(X)
#undef X
}

__global__ void evaluate_double(const double* inputs, double* out, int count) {
  const int i = static_cast<int>(threadIdx.x + blockIdx.x * blockDim.x);
  if (i >= count) return;
  const double x = inputs[i];
  out[i] = exp(x);
  out[count + i] = log(fabs(x) + 0.01);
  out[2 * count + i] = sin(x);
  out[3 * count + i] = 1.0 / x;
  out[4 * count + i] = sqrt(fabs(x));
  out[5 * count + i] = pow(fabs(x) + 0.5, 1.75);
}

}  // namespace

TEST_CASE("functions of float stay within their documented errors") {
  const Function functions[] = {
#define X(name, expression, exact, low, high, ...)                                       \
  {name, [](double x, [[maybe_unused]] double y) -> double { return exact; }, low, high, \
   __VA_ARGS__},
      FUNCTIONS(X)
#undef X
  };
  const int rows = static_cast<int>(std::size(functions)), count = 512;
  Random random(3);
  std::vector<float> inputs;
  for (const Function& function : functions) {
    for (int i = 0; i < count; ++i) {
      const double place = 0.5 + 0.5 * random.unit();
      inputs.push_back(static_cast<float>(function.low + place * (function.high - function.low)));
      inputs.push_back(2.25F + 1.75F * random.unit());
    }
  }
  const Buffer<float> device_inputs(inputs), out(static_cast<std::size_t>(rows * count));
  evaluate<<<4, 128>>>(device_inputs.get(), out.get(), count);
  LAUNCH_OK();
  const std::vector<float> results = out.host();
  for (int row = 0; row < rows; ++row) {
    const Function& function = functions[row];
    double worst = 0;
    float where = 0;
    for (int i = 0; i < count; ++i) {
      const float x = inputs[2 * (row * count + i)], y = inputs[2 * (row * count + i) + 1];
      const double exact = static_cast<float>(function.exact(x, y));
      int exponent = 0;
      std::frexp(exact, &exponent);
      const double allowed = function.bound.absolute + function.bound.relative * std::fabs(exact) +
                             function.bound.ulps * std::ldexp(1.0, exponent - 24);
      const double error = std::fabs(results[row * count + i] - exact);
      const double share = error == 0 ? 0 : error / allowed;  // infinite where none is allowed
      if (!(share <= worst)) worst = share, where = x;        // a NaN counts as the worst
    }
    INFO(std::string(function.name), " at ", where, ": error over its bound ", worst);
    CHECK(worst <= 1.0);
  }
}

TEST_CASE("functions of double are within two units in the last place") {
  const int count = 256;
  Random random(5);
  std::vector<double> inputs(count);
  for (double& x : inputs) x = 20.0 * random.unit() + 1e-3;
  const Buffer<double> device_inputs(inputs), out(6 * count);
  evaluate_double<<<2, 128>>>(device_inputs.get(), out.get(), count);
  LAUNCH_OK();
  const std::vector<double> results = out.host();
  const auto off = [](double result, double exact) {
    return !(std::fabs(result - exact) <= std::fabs(exact) * 0x1p-51);
  };
  int wrong = 0;
  for (int i = 0; i < count; ++i) {
    const double x = inputs[i];
    wrong += off(results[i], std::exp(x)) + off(results[count + i], std::log(std::fabs(x) + 0.01)) +
             off(results[2 * count + i], std::sin(x)) + (results[3 * count + i] != 1.0 / x) +
             (results[4 * count + i] != std::sqrt(std::fabs(x))) +
             off(results[5 * count + i], std::pow(std::fabs(x) + 0.5, 1.75));
  }
  CHECK(wrong == 0);
}

TEST_CASE("special values of approximate instructions") {
  struct Case {
    float x;
    float exp2, log2, reciprocal, root;
  };
  const float inf = INFINITY;
  // log2(0) = -inf, 1/±0 = ±inf, exp2(-inf) = 0, rsqrt(inf) = 0 ... (PTX ISA, tables of special
  // values)
  const Case cases[] = {{0.0F, 1, -inf, inf, inf},  {-0.0F, 1, -inf, -inf, -inf},
                        {1.0F, 2, 0, 1, 1},         {inf, inf, inf, 0, 0},
                        {-inf, 0, NAN, -0.0F, NAN}, {-1.0F, 0.5F, NAN, -1, NAN},
                        {NAN, NAN, NAN, NAN, NAN},  {4.0F, 16, 2, 0.25F, 0.5F}};
  std::vector<float> inputs(2 * 512 * 27, 1.0F);
  for (int row = 0; row < 4; ++row) {
    for (int i = 0; i < 8; ++i) inputs[2 * (row * 512 + i)] = cases[i].x;
  }
  const Buffer<float> device_inputs(inputs), out(512 * 27);
  evaluate<<<4, 128>>>(device_inputs.get(), out.get(), 512);
  LAUNCH_OK();
  const std::vector<float> results = out.host();
  const auto same = [](float a, float b) {
    return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
  };
  for (int i = 0; i < 8; ++i) {
    INFO("x = ", cases[i].x);
    CHECK(same(results[i], cases[i].exp2));
    CHECK(same(results[512 + i], cases[i].log2));
    CHECK(same(results[2 * 512 + i], cases[i].reciprocal));
    CHECK(same(results[3 * 512 + i], cases[i].root));
  }
}
